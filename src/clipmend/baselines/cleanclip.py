"""CleanCLIP: fine-tuning on trusted pairs, each modality by itself too (arXiv:2303.03323)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from clipmend.baselines.repair import Means
from clipmend.clip.fit import Schedule, Task
from clipmend.clip.self_supervised import SelfSupervised, caption_views
from clipmend.clip.views import synonym_words
from clipmend.settings import Count, Fraction, NonNegative, Positive


@dataclass(frozen=True)
class CleanCLIP:
    """Minimises ``mmcl_weight`` MMCL + ``ssl_weight`` SSL over the trusted pairs.

    Attributes:
        policy: AutoAugment's policy for the image views.
    """

    needs: ClassVar[tuple[str, ...]] = ("trusted",)
    control: ClassVar[bool] = False

    epochs: Count = 25
    batch_size: Count = 64
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    mmcl_weight: NonNegative = 1.0
    ssl_weight: NonNegative = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:
        """Yield the one task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        views = caption_views(means.model, means.trusted.captions, generator)
        loss = SelfSupervised(views, self.mmcl_weight, self.ssl_weight, self.policy)
        yield Task(means.trusted, loss, schedule)

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA may bring in."""
        return synonym_words()
