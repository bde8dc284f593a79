"""PUD (Progressive Unified Defense): pairs that purification changes (arXiv:2405.17929)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from clipmend.data.artifacts import PURIFIED_MODEL
from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, PositiveFraction
from clipmend.metrics.adversarial import Budget, adversarial_examples
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Hooks, Schedule, Task, fit_all
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class PUD:
    """Purifies the victim in rounds, and scores each training pair by how much its image changes.

    A round trains the image tower on the pairs kept so far. It minimizes MMCL (the multimodal
    contrastive loss) of adversarial examples of the current model + ``anchor_weight`` drift. The
    drift is the squared distance of the untouched images' embeddings from the victim's.

    After a round, the consistency of every training pair is measured. It is the cosine of the
    victim's and the purified model's logits over a bank of captions, scaled to [0, 1]. ``penalty``
    is subtracted where the closest caption differs. The most consistent pairs are kept for the next
    round. The score is minus the last consistency.

    Differs from the paper: captions replace classes in the attack and in the logits, because the
    pairs have no labels. The anchor is new, and AdamW replaces SGD. The penalty is 0 by default.
    The step that filters the target class by robust covariance (SPECTRE) is left out, because it
    must know the target.

    Attributes:
        shares: share of the training pairs that each round trains on; the first round takes random
            pairs. Published: 0.05, then 0.2, 0.4, 0.7, 0.8.
        aim: what the adversarial examples maximize: the ``mismatch`` with the own caption among the
            batch's, or the ``displacement`` of the embedding, which needs no caption.
        epsilon: the largest change of a pixel, in 255ths; published: 6.
        steps: steps of projected gradient ascent for each example; published: 7.
        adversarial_share: number of examples at the beginning of a round, as a share of the
            training pairs; later batches are untouched. Published rounds make 0.4 to 0.5.
        anchor_weight: weight of the distance from the victim.
        epochs: passes of each round over the pairs kept.
        batch_size: pairs per step.
        lr: the peak learning rate of each round.
        frozen_statistics: whether batch norm keeps the victim's statistics.
        bank: number of distinct captions that the logits are taken over, sampled once.
        centered: whether each image's mean logit is subtracted before the cosine. The logits of a
            large CLIP share an offset, with which all cosines are near 1.
        penalty: published: 0.5, for the closest of a few classes. The closest of hundreds of
            captions changes for most clean images too.
    """

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

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, whether the closest caption stayed, and the purified model."""
        model, train = assets.model, assets.train()
        before = _Embeddings.of(model, train, self.bank, generator)
        fit_all(model, self._rounds(model, train, before, generator), generator, hooks)
        alike, agrees = self._consistencies(model, train, before)
        return PairScores(-alike, {"agrees": agrees}, {PURIFIED_MODEL: model})

    def _rounds(
        self, model: Clip, train: Pairs, before: "_Embeddings", generator: torch.Generator
    ) -> Iterator[Task]:
        schedule = image_tower_schedule(
            self.epochs, self.batch_size, self.lr, frozen_statistics=self.frozen_statistics
        )
        order = torch.randperm(len(train), generator=generator)
        for number, share in enumerate(self.shares):
            if number:
                alike, _ = self._consistencies(model, train, before)
                order = alike.argsort(descending=True, stable=True)
            kept = order[: max(2, round(share * len(train)))]  # the loop skips a batch of one pair
            adversarial = round(self.adversarial_share * len(train))
            loss = _PurificationLoss(before.texts[kept], before.images[kept], self, adversarial)
            yield Task(train.take(kept), loss, schedule, before_epoch=loss.begin)

    def _consistencies(
        self, model: Clip, train: Pairs, before: "_Embeddings"
    ) -> tuple[Float[Tensor, " samples"], Bool[Tensor, " samples"]]:
        """Return each pair's consistency, and whether its image's closest caption is the same."""
        old_logits = before.images @ before.bank.T
        logits = embed_images(model, train.images) @ before.bank.T
        agrees = old_logits.argmax(dim=1) == logits.argmax(dim=1)
        alike = consistency(old_logits, logits, centered=self.centered)
        return alike - self.penalty * (~agrees).float(), agrees


def image_tower_schedule(
    epochs: int, batch_size: int, lr: float, *, frozen_statistics: bool
) -> Schedule:
    """Return a schedule that trains the image tower alone, as PUD does in all its parts."""
    return Schedule(
        epochs, batch_size, lr, trainable=("visual.",), frozen_statistics=frozen_statistics
    )


def consistency(
    before: Float[Tensor, "samples bank"], after: Float[Tensor, "samples bank"], *, centered: bool
) -> Float[Tensor, " samples"]:
    """Return the cosine of two models' logits, scaled to [0, 1]."""
    if centered:
        before, after = (logits - logits.mean(dim=1, keepdim=True) for logits in (before, after))
    return (1 + F.cosine_similarity(before, after, dim=1)) / 2


@dataclass(frozen=True)
class _Embeddings:
    """The victim's embeddings of the training pairs, before it is purified.

    Attributes:
        bank: the embeddings of some distinct captions, which replace classes.
    """

    images: Float[Tensor, "samples dim"]
    texts: Float[Tensor, "samples dim"]
    bank: Float[Tensor, "bank dim"]

    @classmethod
    def of(cls, model: Clip, train: Pairs, bank: int, generator: torch.Generator) -> "_Embeddings":
        """Return the embeddings, with ``bank`` captions sampled by the generator."""
        texts = embed_texts(model, model.tokenize(train.captions))
        first = {caption: row for row, caption in reversed(list(enumerate(train.captions)))}
        distinct = torch.tensor(sorted(first.values()))
        rows = distinct[torch.randperm(len(distinct), generator=generator)[:bank]]
        return cls(embed_images(model, train.images), texts, texts[rows])


@dataclass
class _PurificationLoss:
    """The loss of a round; its tensors have one row for each pair kept.

    Attributes:
        adversarial: number of examples to make before the loss goes on with untouched images.
        seen: number of pairs so far, which ``begin`` restores after a kill.
    """

    texts: Float[Tensor, "kept dim"]
    anchors: Float[Tensor, "kept dim"]
    settings: PUD
    adversarial: int
    seen: int = 0

    def begin(self, model: Clip, epoch: int, generator: torch.Generator) -> None:
        """Set the number of pairs so far at the start of an epoch."""
        self.seen = epoch * len(self.texts)

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        texts, settings = self.texts[batch.rows].to(model.device), self.settings
        images = batch.images.to(model.device).float() / 255
        is_adversarial, self.seen = self.seen < self.adversarial, self.seen + len(batch.rows)
        if is_adversarial:
            # A displacement has no gradient at the image itself, so it needs a random start.
            start = generator if settings.aim == "displacement" else None
            budget = Budget(settings.epsilon / 255, settings.steps)
            attacked = adversarial_examples(model, images, texts, settings.aim, budget, start)
            embeds, untouched = model.encode_image(torch.cat([attacked, images])).chunk(2)
        else:
            embeds = untouched = model.encode_image(images)
        drift = (untouched - self.anchors[batch.rows].to(model.device)).square().sum(dim=1)
        mmcl = mmcl_loss(embeds, texts, model.logit_scale())
        return torch.as_tensor(mmcl + settings.anchor_weight * drift.mean())
