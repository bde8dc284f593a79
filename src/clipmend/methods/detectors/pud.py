"""PUD's detection: what adversarial purification leaves as it was is clean (arXiv:2405.17929)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.detector import Suspicion, Victim
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, PositiveFraction
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Hooks, Schedule, Task, fit_all
from clipmend.model.losses import mmcl_loss

PURIFIED = "purified.safetensors"


@dataclass(frozen=True)
class PUD:
    """Purifies the victim round by round, and suspects the pairs that it then sees otherwise.

    A round minimizes, on the pairs kept so far, MMCL of adversarial examples of the present model
    with the captions, + ``anchor_weight`` times the squared distance of the untouched images'
    embeddings from the victim's; the image tower alone moves. Then every training pair's
    consistency is taken: how like the victim's the purified model's logits are over a bank of
    captions, as a cosine brought to [0, 1], less ``penalty`` where the closest caption is another.
    The most consistent are kept for the next round; minus the last consistency is the score.

    Differs from the paper: captions stand for classes, both in the attack and in the logits, as
    there are no labels; the anchor; AdamW in the place of SGD; no penalty by default; the step that
    filters the target class by robust covariance (SPECTRE) is left out, as it is told the target.

    Attributes:
        shares: of the training pairs that each round purifies on; in the first they are drawn at
            random. Published: 0.05, then 0.2, 0.4, 0.7, 0.8.
        aim: what the examples raise: a ``mismatch`` with the own caption among the batch's, or the
            ``displacement`` of the embedding, which looks at no caption.
        epsilon: the largest change of a pixel, in 255ths; published: 6.
        steps: of projected gradient ascent; published: 7.
        adversarial_share: how many examples a round makes, at its beginning, as a share of the
            training pairs; later batches are untouched. The published rounds make 0.4 to 0.5.
        epochs: of each round, over the pairs kept.
        frozen_statistics: whether batch norm keeps the victim's statistics.
        bank: how many distinct captions the logits are taken over, drawn once.
        centered: whether each image's mean logit is taken off before the cosine. The logits of a
            large CLIP have an offset in common, under which all cosines are near 1.
        penalty: published: 0.5, where the closest of few classes is asked for. Which of hundreds
            of captions is the closest changes for most clean images too.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    shares: tuple[PositiveFraction, ...] = (0.05, 0.2, 0.3)
    aim: Literal["mismatch", "displacement"] = "mismatch"
    epsilon: Positive = 6.0
    steps: Count = 3
    adversarial_share: Fraction = 0.2
    anchor_weight: NonNegative = 1.0
    epochs: Count = 10
    batch_size: Count = 64
    lr: Positive = 3e-2
    frozen_statistics: bool = False
    bank: Count = 256
    centered: bool = False
    penalty: Fraction = 0.0

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Suspicion:
        """Return the suspicion, whether the closest caption stayed, and the purified model."""
        model = victim.model
        infected = _Infected.of(model, train, self.bank, generator)
        fit_all(model, self._rounds(model, train, infected, generator), generator, hooks)
        alike, agrees = self._identified(model, train, infected)
        return Suspicion(-alike, {"agrees": agrees}, {PURIFIED: model})

    def _rounds(
        self, model: Clip, train: Pairs, infected: "_Infected", generator: torch.Generator
    ) -> Iterator[Task]:
        order = torch.randperm(len(train), generator=generator)
        for place, share in enumerate(self.shares):
            if place:
                alike, _ = self._identified(model, train, infected)
                order = alike.argsort(descending=True, stable=True)
            yield self._task(train, infected, order[: max(2, round(share * len(train)))])

    def _identified(
        self, model: Clip, train: Pairs, infected: "_Infected"
    ) -> tuple[Float[Tensor, " samples"], Bool[Tensor, " samples"]]:
        """Return each pair's consistency, and whether its image's closest caption is the same."""
        before = infected.images @ infected.bank.T
        after = embed_images(model, train.images) @ infected.bank.T
        agrees = before.argmax(dim=1) == after.argmax(dim=1)
        alike = consistency(before, after, centered=self.centered)
        return alike - self.penalty * (~agrees).float(), agrees

    def _task(self, train: Pairs, infected: "_Infected", kept: Tensor) -> Task:
        loss = _Purify(
            texts=infected.texts[kept],
            anchors=infected.images[kept],
            aim=self.aim,
            budget=Budget(self.epsilon / 255, self.steps),
            adversarial=round(self.adversarial_share * len(train)),
            anchor_weight=self.anchor_weight,
        )
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            trainable=("visual.",),
            frozen_statistics=self.frozen_statistics,
        )
        return Task(train.take(kept), loss, schedule, before_epoch=loss.begin)


def consistency(
    before: Float[Tensor, "samples bank"],
    after: Float[Tensor, "samples bank"],
    *,
    centered: bool,
) -> Float[Tensor, " samples"]:
    """Return the cosine of two models' logits, brought to [0, 1]."""
    if centered:
        before, after = (logits - logits.mean(dim=1, keepdim=True) for logits in (before, after))
    return (1 + F.cosine_similarity(before, after, dim=1)) / 2


@dataclass(frozen=True)
class _Infected:
    """What the victim made of the training pairs, before it was changed.

    Attributes:
        bank: some captions' embeddings, which stand for classes.
    """

    images: Float[Tensor, "samples dim"]
    texts: Float[Tensor, "samples dim"]
    bank: Float[Tensor, "bank dim"]

    @classmethod
    def of(cls, model: Clip, train: Pairs, bank: int, generator: torch.Generator) -> "_Infected":
        texts = embed_texts(model, model.tokenize(train.captions))
        first = {caption: row for row, caption in reversed(list(enumerate(train.captions)))}
        distinct = torch.tensor(sorted(first.values()))
        drawn = distinct[torch.randperm(len(distinct), generator=generator)[:bank]]
        return cls(embed_images(model, train.images), texts, texts[drawn])


@dataclass
class _Purify:
    """The loss of a round; its tensors have a row for each pair kept.

    Attributes:
        adversarial: how many examples it makes before it goes on with untouched images.
        seen: how many pairs it was shown, which ``begin`` sets again after a kill.
    """

    texts: Float[Tensor, "kept dim"]
    anchors: Float[Tensor, "kept dim"]
    aim: Literal["mismatch", "displacement"]
    budget: Budget
    adversarial: int
    anchor_weight: float
    seen: int = 0

    def begin(self, model: Clip, epoch: int, generator: torch.Generator) -> None:  # noqa: ARG002
        self.seen = epoch * len(self.texts)

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        texts = self.texts[batch.rows].to(model.device)
        images = batch.images.to(model.device).float() / 255
        is_adversarial, self.seen = self.seen < self.adversarial, self.seen + len(batch.rows)
        if is_adversarial:
            start = generator if self.aim == "displacement" else None  # the other moves anyway
            found = adversarial_examples(model, images, texts, self.aim, self.budget, start)
            shown, untouched = model.encode_image(torch.cat([found, images])).chunk(2)
        else:
            shown = untouched = model.encode_image(images)
        drift = (untouched - self.anchors[batch.rows].to(model.device)).square().sum(dim=1)
        mmcl = mmcl_loss(shown, texts, model.logit_scale())
        return torch.as_tensor(mmcl + self.anchor_weight * drift.mean())
