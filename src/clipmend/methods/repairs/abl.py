"""ABL: isolate what is most suspect, then climb its loss (Li et al. 2021, arXiv:2110.11571)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    ProperFraction,
)
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task
from clipmend.model.losses import mmcl_loss


@dataclass(frozen=True)
class Ascent:
    """Minimizes MMCL of the others less each pair's loss among them, up to that of chance.

    Attributes:
        others: pairs that are not suspect; among one another, isolated pairs of one caption
            would be at chance before anything is unlearnt.
        tokens: one row for each of them.
        negatives: how many of them are drawn for a batch.
    """

    others: Pairs
    tokens: Int[Tensor, "samples context"]
    negatives: int

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the difference; a pair that is at chance no longer moves anything."""
        rows = torch.randperm(len(self.others), generator=generator)[: self.negatives]
        images = model.encode_image(torch.cat([batch.images, self.others.images[rows]]))
        texts = model.encode_text(torch.cat([batch.tokens, self.tokens[rows]]))
        own, scale = len(batch.rows), model.logit_scale()
        to_texts = losses_among(images[:own], texts[:own], texts[own:], scale)
        to_images = losses_among(texts[:own], images[:own], images[own:], scale)
        unlearnt = bounded((to_texts + to_images) / 2, len(rows))
        return mmcl_loss(images[own:], texts[own:], scale) - unlearnt.mean()


def losses_among(
    anchors: Float[Tensor, "batch dim"],
    positives: Float[Tensor, "batch dim"],
    negatives: Float[Tensor, "reference dim"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, " batch"]:
    """Return each anchor's InfoNCE with its positive among the negatives (arXiv:1807.03748)."""
    own = (anchors * positives).sum(dim=1, keepdim=True)
    logits = logit_scale * torch.cat([own, anchors @ negatives.T], dim=1)
    return logits.logsumexp(dim=1) - logits[:, 0]


def bounded(losses: Float[Tensor, " batch"], negatives: int) -> Float[Tensor, " batch"]:
    """Return the losses, at most that of equal cosines, beyond which there is no gradient."""
    return losses.clamp(max=log(1 + negatives))


@dataclass(frozen=True)
class ABL:
    """Minimizes MMCL over the rest of the training pairs, less the loss of the isolated (eq. 4).

    The ``isolated`` share that ``detector`` finds most suspect is set aside; the model may be
    fine-tuned on the rest alone before, the step that the paper calls optional.

    Differs from the paper: the ascent is bounded. Unlike a classifier's, the cheapest way up for
    a dual encoder is to give up all of its space, so a pair stops at the loss of chance among
    pairs drawn from the rest. Batch norm keeps its statistics meanwhile: so many poisoned images
    in a batch would shift them. Which pairs are suspect is the detector's own adaptation.

    Attributes:
        detector: whose scores say what is suspect.
        epochs: of the ascent.
        negatives: how many pairs of the rest each batch of the ascent is shown with.
        finetune_epochs: of fine-tuning on the rest; 0 leaves it out.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)
    control: ClassVar[bool] = False

    detector: str = "abl"
    isolated: ProperFraction = 0.01
    epochs: Count = 40
    batch_size: Count = 64
    lr: Positive = 3e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    negatives: Count = 128
    finetune_epochs: Natural = 0
    finetune_lr: Positive = 1e-3

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Yield fine-tuning on the rest, then the ascent.

        Raises:
            TrainingError: there is no rest.
        """
        train = means.train()
        suspects, rest = isolate(means.detected().score, self.isolated)
        if not len(rest):
            raise TrainingError(
                f"abl: isolated {self.isolated} of {len(train)} pairs is all of them, and leaves "
                "none to be contrasted with; lower it."
            )
        others = train.take(rest)
        if self.finetune_epochs:
            yield Task(others, multimodal, self._schedule(self.finetune_epochs, self.finetune_lr))
        ascent = Ascent(others, means.model.tokenize(others.captions), self.negatives)
        schedule = self._schedule(self.epochs, self.lr, frozen_statistics=True)
        yield Task(train.take(suspects), ascent, schedule)

    def _schedule(self, epochs: int, lr: float, *, frozen_statistics: bool = False) -> Schedule:
        return Schedule(
            epochs,
            self.batch_size,
            lr,
            self.warmup,
            self.weight_decay,
            frozen_statistics=frozen_statistics,
        )

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()


def isolate(
    score: Float[Tensor, " samples"], share: float
) -> tuple[Int[Tensor, " suspects"], Int[Tensor, " rest"]]:
    """Return the rows of the most suspect share, at least two, and the others, in their order."""
    order = score.argsort(descending=True, stable=True)
    count = max(2, round(share * len(score)))  # one pair would be no batch
    return order[:count].sort().values, order[count:].sort().values
