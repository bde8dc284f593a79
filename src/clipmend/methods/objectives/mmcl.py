"""MMCL: the multimodal contrastive loss of CLIP (Radford et al. 2021, arXiv:2103.00020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from clipmend.data.splits import Pairs
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Schedule, Task


@dataclass(frozen=True)
class MMCL:
    """Minimizes InfoNCE between images and captions, both ways, over all training pairs.

    Attributes:
        start: the objective whose unpoisoned victim, of the same corpus and seed, it goes on from;
            None: from nothing.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    epochs: Count = 12
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 1
    start: str | None = None

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:  # noqa: ARG002
        """Return the task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        return Task(train, multimodal, schedule)

    def head(self) -> Mapping[str, float]:
        """Return nothing: logits are CLIP's."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()
