"""ABL (Anti-Backdoor Learning): ascent on suspects (Li et al. 2021, arXiv:2110.11571)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.interfaces import Assets, Repair
from clipmend.methods.settings import (
    Count,
    DetectorName,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    ProperFraction,
    Several,
)
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class ABL(Repair):
    """Minimizes MMCL over unsuspected training pairs, minus the loss of the suspects (eq. 4).

    MMCL is the multimodal contrastive loss of CLIP.

    The suspects are the ``isolated`` share of the training pairs that ``detector`` scores highest.
    Before the ascent, the model may be fine-tuned on the other pairs alone, a step that the paper
    calls optional.

    Differs from the paper: the ascent is bounded. Unlike a classifier, a dual encoder can raise the
    loss without limit by collapsing its whole embedding space. So a pair's loss counts up to that
    of chance among pairs sampled from the rest. Batch norm keeps its statistics during the ascent,
    because batches with so many poisoned images would shift them. The suspects come from an
    adapted detector (see ``detectors/abl.py``).

    Attributes:
        detector: the detector whose scores choose the suspects.
        isolated: share of the training pairs that are suspects.
        epochs: passes over the suspects in the ascent.
        batch_size: pairs per step; of the ascent, suspects per step.
        lr: the peak learning rate of the ascent.
        warmup: share of the steps over which the rate rises to its peak.
        weight_decay: AdamW's weight decay, of weight matrices only.
        negatives: unsuspected pairs added to each batch of the ascent.
        finetune_epochs: passes over the unsuspected pairs before the ascent; 0: none.
        finetune_lr: the peak learning rate of this fine-tuning.
    """

    detector: DetectorName = "abl"
    isolated: ProperFraction = 0.01
    epochs: Count = 40
    batch_size: Several = 64
    lr: Positive = 3e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    negatives: Count = 128
    finetune_epochs: Natural = 0
    finetune_lr: Positive = 1e-3

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the optional fine-tuning on the unsuspected pairs, then the ascent.

        Raises:
            TrainingError: every pair is a suspect.
        """
        train = assets.train()
        suspects, rest = isolate(assets.scores().score, self.isolated)
        if not len(rest):
            raise TrainingError(
                f"abl: isolated {self.isolated} of {len(train)} pairs makes every pair a suspect, "
                "which leaves no pair for contrast; lower `isolated`."
            )
        others = train.take(rest)
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        if self.finetune_epochs:
            tuning = replace(schedule, epochs=self.finetune_epochs, lr=self.finetune_lr)
            yield Task(others, multimodal, tuning)
        ascent = AscentLoss(others, assets.model.tokenize(others.captions), self.negatives)
        yield Task(train.take(suspects), ascent, replace(schedule, frozen_statistics=True))


@dataclass(frozen=True)
class AscentLoss:
    """MMCL of unsuspected pairs, minus the bounded loss of the suspects among them.

    Attributes:
        others: the unsuspected pairs, which serve as negatives. Suspects with one caption in
            common would be at chance among each other before anything is unlearned.
        tokens: their captions as token rows.
        negatives: number of these pairs sampled for each batch.
    """

    others: Pairs
    tokens: Int[Tensor, "samples context"]
    negatives: int

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch of suspects; suspects at chance add no gradient."""
        rows = torch.randperm(len(self.others), generator=generator)[: self.negatives]
        images = model.encode_image(torch.cat([batch.images, self.others.images[rows]]))
        texts = model.encode_text(torch.cat([batch.tokens, self.tokens[rows]]))
        own, scale = len(batch.rows), model.logit_scale()
        to_texts = losses_among(images[:own], texts[:own], texts[own:], scale)
        to_images = losses_among(texts[:own], images[:own], images[own:], scale)
        unlearned = bounded((to_texts + to_images) / 2, len(rows))
        return mmcl_loss(images[own:], texts[own:], scale) - unlearned.mean()


def losses_among(
    anchors: Float[Tensor, "batch dim"],
    positives: Float[Tensor, "batch dim"],
    negatives: Float[Tensor, "reference dim"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, " batch"]:
    """Return the InfoNCE of each anchor and its positive among the negatives (arXiv:1807.03748)."""
    own = (anchors * positives).sum(dim=1, keepdim=True)
    logits = logit_scale * torch.cat([own, anchors @ negatives.T], dim=1)
    return logits.logsumexp(dim=1) - logits[:, 0]


def bounded(losses: Float[Tensor, " batch"], negatives: int) -> Float[Tensor, " batch"]:
    """Return the losses, clamped without a gradient at the loss of equal cosines."""
    # Each pair competes with its negatives: at equal cosines, the softmax is 1 / (1 + negatives).
    return losses.clamp(max=log(1 + negatives))


def isolate(
    score: Float[Tensor, " samples"], share: float
) -> tuple[Int[Tensor, " suspects"], Int[Tensor, " rest"]]:
    """Return the rows of the most suspect share, at least two, and the other rows, ascending."""
    order = score.argsort(descending=True, stable=True)
    count = max(2, round(share * len(score)))  # the loop skips a batch of one pair
    return order[:count].sort().values, order[count:].sort().values
