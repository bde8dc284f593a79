"""FT: plain fine-tuning on trusted pairs with the loss of CLIP."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.fine_tuning import FineTuning
from clipmend.model.batch_losses import multimodal
from clipmend.model.fit import Task


@dataclass(frozen=True)
class FT(FineTuning):
    """Minimizes MMCL (the multimodal contrastive loss) over the trusted pairs."""

    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the task."""
        yield Task(assets.trusted(), multimodal, self.schedule())
