"""What every baseline repair is: a task over the pairs that it needs."""

from typing import Protocol, runtime_checkable

import torch

from clipmend.clip.fit import Task
from clipmend.clip.model import Clip
from clipmend.corpus.splits import Pairs


@runtime_checkable
class Repair(Protocol):
    """A frozen dataclass; its fields are its settings."""

    def task(self, victim: Clip, trusted: Pairs, generator: torch.Generator) -> Task:
        """Return what to minimise, over the defender's trusted pairs.

        Args:
            generator: for what is drawn once, before the loop.
        """

    def texts(self) -> tuple[str, ...]:
        """Return texts, beside the captions, that the repair may show to the model."""
