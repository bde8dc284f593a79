"""FT: plain fine-tuning on trusted pairs, with the loss of CLIP."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from clipmend.methods.repairs.repair import Means
from clipmend.methods.settings import Count, Fraction, NonNegative, Positive
from clipmend.model.batch_losses import multimodal
from clipmend.model.fit import Schedule, Task


@dataclass(frozen=True)
class FT:
    """Minimizes MMCL over the trusted pairs."""

    needs: ClassVar[tuple[str, ...]] = ("trusted",)
    control: ClassVar[bool] = False

    epochs: Count = 25
    batch_size: Count = 128
    lr: Positive = 3e-2
    warmup: Fraction = 0.1
    weight_decay: NonNegative = 0.1

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:  # noqa: ARG002
        """Yield the one task."""
        schedule = Schedule(self.epochs, self.batch_size, self.lr, self.warmup, self.weight_decay)
        yield Task(means.trusted, multimodal, schedule)

    def texts(self) -> tuple[str, ...]:
        """Return none: it shows captions only."""
        return ()
