"""What every pretraining objective is: a task for the loop, and an early checkpoint."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch

from clipmend.data.splits import Pairs
from clipmend.model.clip import Clip
from clipmend.model.fit import Task


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass; its fields are its settings.

    A defense at training time is an objective whose ``needs`` are ``("pretraining",)``: whoever
    uses it must be the one who trains. The others need nothing and defend against nothing.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """What a defender must have to use it."""

    @property
    def early_epoch(self) -> int:
        """The epoch after which the early checkpoint is taken."""

    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return what to minimize, over the training pairs.

        Args:
            generator: for what is drawn once, before the loop.
        """

    def head(self) -> Mapping[str, float]:
        """Return how cosines become logits, where it is not as CLIP has it (see ``build``)."""

    def texts(self) -> tuple[str, ...]:
        """Return texts, beside the captions, that the objective may show to the model."""
