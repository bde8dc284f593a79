"""The settings that all objectives share; no method by itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Objective
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive, Several
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Schedule, Task


@dataclass(frozen=True)
class Pretraining(Objective):
    """AdamW over the training pairs, with a linear warm-up and a cosine decay to zero.

    Attributes:
        epochs: passes over the training pairs.
        batch_size: pairs per step.
        lr: the peak learning rate.
        warmup: share of the steps over which the rate rises to its peak.
        weight_decay: AdamW's weight decay, of weight matrices only.
        early_epoch: the epoch after which the early checkpoint is saved, from 1.
    """

    epochs: Count = 12
    batch_size: Several = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 1

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task of minimizing ``loss``."""
        return Task(train, self.loss, self.schedule())

    def loss(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of one batch; by default, that of CLIP."""
        return multimodal(model, batch, generator)

    def schedule(self, lr_scale: tuple[float, ...] = ()) -> Schedule:
        """Return the schedule, with a factor of the rate for each of the first epochs."""
        return Schedule(
            self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay, lr_scale=lr_scale
        )
