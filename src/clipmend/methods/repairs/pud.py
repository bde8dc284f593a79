"""PUD (Progressive Unified Defense), the repair of its own detector (arXiv:2405.17929)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clipmend.data.artifacts import PURIFIED_MODEL
from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.detectors.pud import image_tower_schedule
from clipmend.methods.interfaces import Assets, Repair
from clipmend.methods.settings import (
    Count,
    DetectorName,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveFraction,
)
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Task
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class PUD(Repair):
    """Unlearns the suspects of the purified model, then trains it with a mean teacher.

    The start is the model that the detector purified. Only the image tower is trained.

    1. Unlearning minimizes MMCL (the multimodal contrastive loss) of the kept pairs +
       ``push_weight`` push + ``anchor_weight`` drift. The push is
       ``relu(margin + cos(image, caption))`` of the suspects. The drift is the squared distance of
       the kept images' embeddings from the victim's.
    2. The mean teacher is the running mean of the student. The student minimizes MMCL of the kept
       pairs + ``consistency_weight`` difference. The difference is that of student and teacher in
       their softmax over the batch's captions, squared. A part of the student's images are
       adversarial examples; the teacher sees the untouched images.

    Differs from the paper: its push is ``-0.003`` cross-entropy, which has no bound; this push ends
    at the margin. Its anchor is on the weights, towards a reference that the published script does
    not load; this anchor is on embeddings, towards the victim. The published script makes no
    adversarial examples after purification (``adversarial_share: 0``).

    Attributes:
        detector: the detector whose scores choose the pairs and whose purified model is the start.
        suspect_share: share of the training pairs that are suspects, by score; published: 0.01.
        kept_share: share of the training pairs that are kept, the least suspect.
        suspect_batch_size: suspects sampled for each step of part 1.
        push_weight: weight of the suspects' loss.
        margin: how far the suspects' cosine is pushed below 0.
        anchor_weight: weight of the distance from the victim.
        consistency_weight: weight of the difference of student and teacher.
        decay: the teacher's largest decay; its first steps average over all students so far.
        adversarial_share: share of a batch's images that are adversarial examples, in part 2.
        epsilon: the largest change of a pixel, in 255ths.
        steps: steps of projected gradient ascent for each example.
        unlearning_epochs: passes over the kept pairs in part 1; 0: no unlearning.
        epochs: passes over the kept pairs in part 2.
        batch_size: kept pairs per step.
        lr: the peak learning rate.
        frozen_statistics: whether batch norm keeps its statistics.
        result: the model that is saved, and that the curve of part 2 measures.
    """

    detector: DetectorName = "pud"
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

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the unlearning, then the training with a mean teacher.

        Raises:
            TrainingError: the detector saved no purified model, or a pair is both kept and suspect.
        """
        model = assets.model
        purified = assets.detector_model(PURIFIED_MODEL)
        if purified is None:
            raise TrainingError(
                f"pud starts from the purified model of its detector, and {self.detector!r} saves "
                "none; name `detector: pud`, or a variant of it."
            )
        kept, suspects = self._chosen(assets.train(), assets.scores().score)
        # The anchors are the victim's embeddings, so they come before the purified weights.
        texts = embed_texts(model, model.tokenize(kept.captions))
        unlearn = _UnlearningLoss(
            texts=texts,
            anchors=embed_images(model, kept.images),
            suspects=suspects,
            suspect_texts=embed_texts(model, model.tokenize(suspects.captions)),
            settings=self,
        )
        model.net.load_state_dict(purified.net.state_dict())
        schedule = image_tower_schedule(
            self.epochs, self.batch_size, self.lr, frozen_statistics=self.frozen_statistics
        )
        if self.unlearning_epochs:
            yield Task(kept, unlearn, replace(schedule, epochs=self.unlearning_epochs))
        loss = MeanTeacher(model.frozen_copy(), texts, self)
        averaged = loss.averaged_model if self.result == "teacher" else None
        yield Task(kept, loss, schedule, averaged_model=averaged)

    def _chosen(self, train: Pairs, score: Float[Tensor, " samples"]) -> tuple[Pairs, Pairs]:
        kept = max(2, round(self.kept_share * len(train)))
        pushed = max(1, round(self.suspect_share * len(train)))
        if kept + pushed > len(train):
            raise TrainingError(
                f"pud: kept_share {self.kept_share} and suspect_share {self.suspect_share} of "
                f"{len(train)} pairs overlap; their sum must be at most 1."
            )
        order = score.argsort(stable=True)
        return train.take(order[:kept]), train.take(order[-pushed:])


@dataclass(frozen=True)
class _UnlearningLoss:
    """The loss of part 1; ``texts`` and ``anchors`` have one row for each kept pair."""

    texts: Float[Tensor, "kept dim"]
    anchors: Float[Tensor, "kept dim"]
    suspects: Pairs
    suspect_texts: Float[Tensor, "suspects dim"]
    settings: PUD

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        size = (self.settings.suspect_batch_size,)
        rows = torch.randint(len(self.suspects), size, generator=generator)
        both = torch.cat([batch.images, self.suspects.images[rows]])
        images, pushed = model.encode_image(both).split([len(batch.rows), len(rows)])
        texts, anchors = self.texts[batch.rows].to(images), self.anchors[batch.rows].to(images)
        push = hinge(pushed, self.suspect_texts[rows].to(images), self.settings.margin)
        drift = (images - anchors).square().sum(dim=1).mean()
        mmcl = mmcl_loss(images, texts, model.logit_scale())
        weighted = self.settings.push_weight * push + self.settings.anchor_weight * drift
        return torch.as_tensor(mmcl + weighted)


def hinge(
    image_embeds: Float[Tensor, "batch dim"], text_embeds: Float[Tensor, "batch dim"], margin: float
) -> Float[Tensor, ""]:
    """Return the mean of ``relu(margin + cosine)`` over the pairs."""
    return ((image_embeds * text_embeds).sum(dim=1) + margin).relu().mean()


class MeanTeacher(nn.Module):
    """The loss of part 2. The teacher is a frozen submodule, so that checkpoints contain it.

    Args:
        texts: the captions' embeddings, one for each kept pair.
    """

    def __init__(self, teacher: Clip, texts: Float[Tensor, "kept dim"], settings: PUD) -> None:
        super().__init__()
        self.teacher = teacher
        self.followed = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.texts, self.settings = texts, settings

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch, after the teacher has averaged in the last step's student."""
        self.follow(model)
        texts = self.texts[batch.rows].to(model.device)
        with torch.no_grad():
            teacher_images = self.teacher.encode_image(batch.images)
        images = model.encode_image(self._attacked(model, batch.images, texts))
        scale = model.logit_scale()
        apart = disagreement(scale * images @ texts.T, scale * teacher_images @ texts.T)
        mmcl = mmcl_loss(images, texts, scale)
        return torch.as_tensor(mmcl + self.settings.consistency_weight * apart)

    def follow(self, model: Clip) -> None:
        """Average the student into the teacher, with its batch-norm statistics."""
        self._average(self.teacher, model)
        self.followed.add_(1)

    def averaged_model(self, model: Clip) -> Clip:
        """Return a copy of the teacher with the student averaged in; the teacher stays as it is."""
        teacher = self.teacher.frozen_copy()
        self._average(teacher, model)
        return teacher

    @torch.no_grad()
    def _average(self, teacher: Clip, model: Clip) -> None:
        # A plain mean of the students so far, until the decay would exceed the setting.
        decay = min(1 - 1 / (int(self.followed) + 1), self.settings.decay)
        student = model.net.state_dict()
        for name, value in teacher.net.state_dict().items():
            if value.is_floating_point():
                value.lerp_(student[name], 1 - decay)
            else:  # batch norm's count of batches
                value.copy_(student[name])

    def _attacked(
        self,
        model: Clip,
        images: UInt8[Tensor, "batch 3 height width"],
        texts: Float[Tensor, "batch dim"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images in [0, 1], the first of them as adversarial examples."""
        # Batches are shuffled, so the first images are a random part.
        pixels = images.to(model.device).float() / 255
        count = round(self.settings.adversarial_share * len(pixels))
        if not count:
            return pixels
        budget = Budget(self.settings.epsilon / 255, self.settings.steps)
        attacked = adversarial_examples(model, pixels[:count], texts[:count], "mismatch", budget)
        return torch.cat([attacked, pixels[count:]])


def disagreement(
    student: Float[Tensor, "batch captions"], teacher: Float[Tensor, "batch captions"]
) -> Float[Tensor, ""]:
    """Return the squared difference of the logits' softmax, summed over captions, mean of images.

    Differs from the paper: its code sums over the images too.
    """
    apart = student.softmax(dim=1) - teacher.softmax(dim=1)
    return apart.square().sum(dim=1).mean()
