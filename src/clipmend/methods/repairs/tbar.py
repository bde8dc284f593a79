"""TBAR: subtract the task vector of the backdoor (arXiv:2510.14845)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

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
    NonNegative,
    Positive,
    PositiveFraction,
    Several,
)
from clipmend.metrics.scores import Scores
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TBAR(Repair):
    """Fine-tunes the victim on suspects, and subtracts what this changes in its parameters.

    The fine-tuning strengthens the backdoor. Its change of the parameters is the task vector, and
    the repaired model is the victim minus ``scale`` times this vector. The loss is the suspects'
    minus cosine of image and caption + ``normal_weight`` MMCL (the multimodal contrastive loss) of
    normal pairs. These hold the rest of the model in place, so that little else is subtracted.

    Differs from the paper: there the fine-tuned pairs have the true trigger and the target, or a
    patch that DECREE (``decree``) finds; here a detector chooses them. The normal pairs are ours.
    A fixed ``scale`` replaces the search by accuracy on labeled images. The statistics of batch
    norm, which the paper's transformers lack, stay those of the victim.

    Attributes:
        detector: the detector whose scores choose the suspects.
        pairs: the number of suspects, the most suspect first. Fewer are used where the detector
            marks fewer, and the model stays as it is where it marks fewer than two.
        normal_share: share of the training pairs that are normal, the least suspect.
        normal_weight: weight of the normal pairs' loss.
        epochs: passes over these suspects.
        batch_size: suspects, and as many normal pairs, per step.
        lr: the peak learning rate.
        warmup: share of the steps over which the rate rises to its peak.
        weight_decay: AdamW's weight decay, of weight matrices only.
        scale: the factor of the task vector.
    """

    detector: DetectorName = "ubt"
    pairs: Several = 256
    normal_share: PositiveFraction = 0.5
    normal_weight: NonNegative = 1.0
    epochs: Count = 16
    batch_size: Several = 64
    lr: Positive = 3e-4
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.0
    scale: Positive = 1.0

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task, whose averaged model is the repaired one; nothing without suspects.

        Raises:
            TrainingError: no pair is normal.
        """
        train, scores = assets.train(), assets.scores()
        rows = most_suspect(scores, self.pairs)
        if len(rows) < 2:
            logger.warning(
                "tbar: %s marks fewer than 2 suspects; the model is unchanged.", self.detector
            )
            return
        normal = normal_rows(scores, rows, self.normal_share)
        if not len(normal):
            raise TrainingError(
                f"tbar: normal_share {self.normal_share} of {len(train)} pairs leaves no normal "
                "pair beside the suspects; raise it, or lower `pairs`."
            )
        others, victim = train.take(normal), assets.model.frozen_copy()
        tokens = assets.model.tokenize(others.captions)
        loss = TaskLoss(others, tokens, self.normal_weight)
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            self.warmup,
            self.weight_decay,
            frozen_statistics=True,
        )
        averaged = partial(negated, victim, scale=self.scale)
        yield Task(train.take(rows), loss, schedule, averaged_model=averaged)


@dataclass(frozen=True)
class TaskLoss:
    """Minus the cosine of suspects' images and captions + ``weight`` MMCL of normal pairs.

    Attributes:
        normal: the normal pairs; as many as suspects are sampled in each step.
        tokens: their captions as token rows.
        weight: weight of their loss.
    """

    normal: Pairs
    tokens: Int[Tensor, "samples context"]
    weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch of suspects."""
        suspects = model.encode_image(batch.images) * model.encode_text(batch.tokens)
        rows = torch.randint(len(self.normal), (len(batch.rows),), generator=generator)
        normal = Batch(rows, self.normal.images[rows], self.tokens[rows])
        return self.weight * multimodal(model, normal, generator) - suspects.sum(dim=1).mean()


def most_suspect(scores: Scores, pairs: int) -> Int[Tensor, " chosen"]:
    """Return the rows of at most this many suspects, ascending: those with the highest scores."""
    order = scores.score[scores.suspects].argsort(descending=True, stable=True)
    return scores.suspects[order[:pairs]].sort().values


def normal_rows(
    scores: Scores, chosen: Int[Tensor, " chosen"], share: float
) -> Int[Tensor, " normal"]:
    """Return the rows of the least suspect share of the pairs, without the chosen ones."""
    order = scores.score.argsort(stable=True)[: round(share * len(scores.score))]
    return order[~torch.isin(order, chosen)]


@torch.no_grad()
def negated(victim: Clip, tuned: Clip, *, scale: float) -> Clip:
    """Return the victim minus ``scale`` times the change of its parameters in ``tuned``."""
    repaired = victim.frozen_copy()
    parameters = zip(repaired.net.parameters(), tuned.net.parameters(), strict=True)
    for parameter, after in parameters:
        parameter.sub_(after - parameter, alpha=scale)
    return repaired
