"""PUD's repair: unlearn what purification gave away, then a mean teacher (arXiv:2405.17929)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveFraction,
)
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class PUD:
    """Starts from the model that the detector purified; the image tower alone moves.

    1. Unlearning minimizes MMCL of the kept pairs + ``push_weight`` times
       ``relu(margin + cos(image, caption))`` of the most suspect pairs + ``anchor_weight`` times
       the squared distance of the kept images' embeddings from the victim's.
    2. A mean teacher, the running mean of the student, holds it steady: minimizes MMCL of the kept
       pairs, a part of them adversarial examples of the student, + ``consistency_weight`` times
       the squared difference of student and teacher, which sees the untouched images, in their
       softmax over the batch's captions.

    Differs from the paper: its push is ``-0.003`` cross-entropy, which has no bound, where this one
    ends at the margin; its anchor is on the weights, towards a reference that the published
    script does not load, where this one is on embeddings, towards the victim; that script has no
    adversarial examples after purification (``adversarial_share: 0``).

    Attributes:
        detector: whose scores choose the pairs, and whose purified model is the start.
        suspect_share: of the training pairs, the most suspect, which are pushed; published: 0.01.
        kept_share: of the training pairs, the least suspect, which are fitted.
        suspect_batch_size: suspects a step, drawn for it.
        margin: how far beyond a right angle suspects are pushed, as a cosine.
        decay: of the teacher, at most; the first steps average over all that there were.
        adversarial_share: of a batch's pairs, in the second part.
        epsilon: the largest change of a pixel, in 255ths.
        steps: of projected gradient ascent.
        unlearning_epochs: of the first part.
        epochs: of the second.
        result: which model comes out, and is the one that the second part's curve is of.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)
    control: ClassVar[bool] = False

    detector: str = "pud"
    suspect_share: PositiveFraction = 0.01
    kept_share: PositiveFraction = 0.6
    suspect_batch_size: Count = 16
    push_weight: NonNegative = 1.0
    margin: Fraction = 0.0
    anchor_weight: NonNegative = 1.0
    consistency_weight: NonNegative = 0.05
    decay: Fraction = 0.99
    adversarial_share: Fraction = 0.5
    epsilon: Positive = 2.0
    steps: Count = 3
    unlearning_epochs: Natural = 3
    epochs: Count = 5
    batch_size: Count = 128
    lr: Positive = 1e-2
    frozen_statistics: bool = False
    result: Literal["teacher", "student"] = "teacher"

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Yield the unlearning, then the mean teacher.

        Raises:
            TrainingError: a pair would be both kept and pushed.
        """
        model, detected = means.model, means.detected()
        kept, suspects = self._chosen(means.train(), detected.score)
        texts = embed_texts(model, model.tokenize(kept.captions))
        unlearn = _Unlearn(
            texts=texts,
            anchors=embed_images(model, kept.images),
            suspects=suspects,
            suspect_texts=embed_texts(model, model.tokenize(suspects.captions)),
            settings=self,
        )
        model.net.load_state_dict(detected.model("purified.safetensors").net.state_dict())
        if self.unlearning_epochs:
            yield Task(kept, unlearn, self._schedule(self.unlearning_epochs))
        loss = MeanTeacher(model.frozen_copy(), texts, self)
        averaged = loss.averaged_model if self.result == "teacher" else None
        yield Task(kept, loss, self._schedule(self.epochs), averaged_model=averaged)

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()

    def _chosen(self, train: Pairs, score: Float[Tensor, " samples"]) -> tuple[Pairs, Pairs]:
        kept = max(2, round(self.kept_share * len(train)))
        pushed = max(1, round(self.suspect_share * len(train)))
        if kept + pushed > len(train):
            raise TrainingError(
                f"pud: kept_share {self.kept_share} and suspect_share {self.suspect_share} of "
                f"{len(train)} pairs overlap; let them sum to at most 1."
            )
        trusting = score.argsort(stable=True)
        return train.take(trusting[:kept]), train.take(trusting[-pushed:])

    def _schedule(self, epochs: int) -> Schedule:
        return Schedule(
            epochs,
            self.batch_size,
            self.lr,
            trainable=("visual.",),
            frozen_statistics=self.frozen_statistics,
        )


@dataclass(frozen=True)
class _Unlearn:
    """The loss of the first part; ``texts`` and ``anchors`` have a row for each pair kept."""

    texts: Float[Tensor, "kept dim"]
    anchors: Float[Tensor, "kept dim"]
    suspects: Pairs
    suspect_texts: Float[Tensor, "suspects dim"]
    settings: PUD

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        size = (self.settings.suspect_batch_size,)
        drawn = torch.randint(len(self.suspects), size, generator=generator)
        shown = torch.cat([batch.images, self.suspects.images[drawn]])
        images, pushed = model.encode_image(shown).split([len(batch.rows), len(drawn)])
        texts, anchors = self.texts[batch.rows].to(images), self.anchors[batch.rows].to(images)
        push = hinge(pushed, self.suspect_texts[drawn].to(images), self.settings.margin)
        drift = (images - anchors).square().sum(dim=1).mean()
        mmcl = mmcl_loss(images, texts, model.logit_scale())
        weighted = self.settings.push_weight * push + self.settings.anchor_weight * drift
        return torch.as_tensor(mmcl + weighted)


def hinge(
    image_embeds: Float[Tensor, "batch dim"], text_embeds: Float[Tensor, "batch dim"], margin: float
) -> Float[Tensor, ""]:
    """Return how far cosines are above minus ``margin``, their mean; 0 for those below."""
    return ((image_embeds * text_embeds).sum(dim=1) + margin).relu().mean()


class MeanTeacher(nn.Module):
    """The loss of the second part; the teacher is its state, and no step of the loop moves it.

    Args:
        texts: the captions' embeddings, one for each pair kept.
    """

    def __init__(self, teacher: Clip, texts: Float[Tensor, "kept dim"], settings: PUD) -> None:
        super().__init__()
        self.teacher = teacher
        self.followed = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.texts, self.settings = texts, settings

    def forward(
        self,
        model: Clip,
        batch: Batch,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch, once the teacher has followed the step before it."""
        self.follow(model)
        texts = self.texts[batch.rows].to(model.device)
        with torch.no_grad():
            taught = self.teacher.encode_image(batch.images)
        shown = model.encode_image(self._shown(model, batch.images, texts))
        scale = model.logit_scale()
        apart = disagreement(scale * shown @ texts.T, scale * taught @ texts.T)
        mmcl = mmcl_loss(shown, texts, scale)
        return torch.as_tensor(mmcl + self.settings.consistency_weight * apart)

    def follow(self, model: Clip) -> None:
        """Bring the teacher nearer to the student, the statistics of its norms too."""
        self._bring(self.teacher, model)
        self.followed.add_(1)

    def averaged_model(self, model: Clip) -> Clip:
        """Return the teacher as it would be if it followed now; it stays where it is."""
        teacher = self.teacher.frozen_copy()
        self._bring(teacher, model)
        return teacher

    @torch.no_grad()
    def _bring(self, teacher: Clip, model: Clip) -> None:
        decay = min(1 - 1 / (int(self.followed) + 1), self.settings.decay)
        student = model.net.state_dict()
        for name, value in teacher.net.state_dict().items():
            if value.is_floating_point():
                value.lerp_(student[name], 1 - decay)
            else:
                value.copy_(student[name])

    def _shown(
        self,
        model: Clip,
        images: UInt8[Tensor, "batch 3 height width"],
        texts: Float[Tensor, "batch dim"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images, the first of them as adversarial examples; batches come shuffled."""
        pixels = images.to(model.device).float() / 255
        count = round(self.settings.adversarial_share * len(pixels))
        if not count:
            return pixels
        budget = Budget(self.settings.epsilon / 255, self.settings.steps)
        found = adversarial_examples(model, pixels[:count], texts[:count], "mismatch", budget)
        return torch.cat([found, pixels[count:]])


def disagreement(
    student: Float[Tensor, "batch captions"], teacher: Float[Tensor, "batch captions"]
) -> Float[Tensor, ""]:
    """Return the squared difference of the logits' softmax, summed over captions, mean of images.

    Differs from the paper: its code sums over the images too.
    """
    apart = student.softmax(dim=1) - teacher.softmax(dim=1)
    return apart.square().sum(dim=1).mean()
