"""MMCL + SSL: each modality also contrasted with views of itself (SLIP's and CleanCLIP's loss)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from clipmend.data.splits import Pairs
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.batch_losses import SelfSupervised, caption_views
from clipmend.model.clip import Clip
from clipmend.model.fit import Schedule, Task
from clipmend.model.views import synonym_words


@dataclass(frozen=True)
class MMCLSSL:
    """Minimizes MMCL + SSL over all training pairs (arXiv:2311.14948, section 2).

    Attributes:
        policy: AutoAugment's policy for the image views.
        start: the objective whose unpoisoned victim, of the same corpus and seed, it goes on from;
            None: from nothing.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    epochs: Count = 14
    batch_size: Count = 128
    lr: Positive = 2e-3
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    early_epoch: Count = 1
    ssl_weight: NonNegative = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    start: str | None = None

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        views = caption_views(model, train.captions, generator)
        loss = SelfSupervised(views, ssl_weight=self.ssl_weight, policy=self.policy)
        return Task(train, loss, schedule)

    def head(self) -> Mapping[str, float]:
        """Return nothing: logits are CLIP's."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA may bring in."""
        return synonym_words()
