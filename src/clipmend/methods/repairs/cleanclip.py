"""CleanCLIP: fine-tuning on trusted pairs, each modality by itself too (arXiv:2303.03323)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from clipmend.errors import TrainingError
from clipmend.methods.repairs.cleaning import (
    cleaning_pairs,
    shrink_and_perturb,
    weighted_multimodal,
)
from clipmend.methods.repairs.deep_clustering import clustered
from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import Count, Fraction, Natural, NonNegative, Positive
from clipmend.model.batch_losses import SelfSupervised, caption_views
from clipmend.model.clip import Clip
from clipmend.model.fit import Loss, Schedule, Task
from clipmend.model.views import synonym_words


@dataclass(frozen=True)
class CleanCLIP:
    """Minimizes ``mmcl_weight`` MMCL + ``ssl_weight`` SSL over trusted pairs.

    The settings from ``pairs`` on are what arXiv:2311.14948 tries where this alone does not clean.

    Attributes:
        policy: AutoAugment's policy for the image views.
        pairs: only the first so many trusted pairs; 0: all.
        poisons: so many poisoned pairs take the place of trusted ones: what an attacker got
            into the trusted set. It makes the run a control, as the truth is looked up.
        shrink: what the victim's parameters are multiplied by at first.
        perturb: share of an untrained model's parameters that is added to them.
        clusters: of deep clustering, whose cross-entropy is added; 0: none.
    """

    epochs: Count = 25
    batch_size: Count = 64
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1
    mmcl_weight: NonNegative = 1.0
    ssl_weight: NonNegative = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    pairs: Natural = 0
    poisons: Natural = 0
    shrink: Fraction = 1.0
    perturb: NonNegative = 0.0
    clusters: Natural = 0
    clustering_weight: NonNegative = 5.0

    @property
    def needs(self) -> tuple[str, ...]:
        """Trusted pairs; the training pairs too where some slip in among these."""
        return ("trusted", "train") if self.poisons else ("trusted",)

    @property
    def control(self) -> bool:
        """Whether the truth is looked up to put poison among the trusted pairs."""
        return self.poisons > 0

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:
        """Yield the one task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        pairs = cleaning_pairs(means, pairs=self.pairs, poisons=self.poisons)
        shrink_and_perturb(means, shrink=self.shrink, perturb=self.perturb, generator=generator)
        task = Task(pairs, self._loss(means.model, pairs.captions, generator), schedule)
        if self.clusters:
            task = clustered(task, means.model, self.clusters, self.clustering_weight)
        yield task

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA may bring in."""
        return synonym_words() if self.ssl_weight else ()

    def _loss(self, model: Clip, captions: Sequence[str], generator: torch.Generator) -> Loss:
        if not self.mmcl_weight and not self.ssl_weight:
            raise TrainingError("`mmcl_weight` and `ssl_weight` are both 0; one must be above it.")
        if not self.ssl_weight:
            return weighted_multimodal(self.mmcl_weight)
        views = caption_views(model, captions, generator)
        return SelfSupervised(views, self.mmcl_weight, self.ssl_weight, self.policy)
