"""The settings that all repairs by fine-tuning on trusted pairs share; no method by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.interfaces import Assets, Repair
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, Several
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task


@dataclass(frozen=True)
class FineTuning(Repair):
    """AdamW over the trusted pairs, with a linear warm-up and a cosine decay to zero.

    Attributes:
        epochs: passes over the trusted pairs.
        batch_size: pairs per step.
        lr: the peak learning rate.
        warmup: share of the steps over which the rate rises to its peak.
        weight_decay: AdamW's weight decay, of weight matrices only.
    """

    epochs: Count = 25
    batch_size: Several = 128
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1

    @property
    def needs(self) -> tuple[str, ...]:
        """The pairs that a defender must have."""
        return ("trusted",)

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task of minimizing ``loss``."""
        yield Task(assets.trusted(), self.loss, self.schedule())

    def loss(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch; by default, that of CLIP."""
        return multimodal(model, batch, generator)

    def schedule(self) -> Schedule:
        """Return the schedule of the training loop."""
        return Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
