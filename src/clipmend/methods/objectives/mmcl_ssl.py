"""MMCL + SSL: each modality is also contrasted with views of itself (the loss of SLIP).

MMCL is the multimodal contrastive loss of CLIP, SSL the self-supervised loss. SLIP is Mu et al.
2022, arXiv:2112.12750. CleanCLIP (arXiv:2303.03323) cleans with the same loss.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from clipmend.data.splits import Pairs
from clipmend.methods.objectives.mmcl import MMCL
from clipmend.methods.settings import Count, NonNegative
from clipmend.model.batch_losses import SelfSupervised, caption_views
from clipmend.model.clip import Clip
from clipmend.model.fit import Task
from clipmend.model.views import synonym_words


@dataclass(frozen=True)
class MMCLSSL(MMCL):
    """Minimizes MMCL + ``ssl_weight`` SSL over all training pairs (arXiv:2311.14948, section 2).

    Attributes:
        ssl_weight: weight of SSL.
        policy: AutoAugment's policy for the image views.
    """

    epochs: Count = 14
    ssl_weight: NonNegative = 1.0
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task."""
        # Caption views are made once, as in the published code; image views change at every step.
        views = caption_views(model, train.captions, generator)
        loss = SelfSupervised(views, ssl_weight=self.ssl_weight, policy=self.policy)
        return Task(train, loss, self.schedule())

    def texts(self) -> tuple[str, ...]:
        """Return the words that EDA (easy data augmentation) may put into a caption."""
        return synonym_words()
