"""Unpoisoned: the control that changes nothing; it yields the clean model."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipmend.methods.attacks.attack import (
    AttackContext,
    ImageBatch,
    PoisonedRows,
    SingleTrigger,
    TriggerTensors,
)


@dataclass(frozen=True)
class Unpoisoned(SingleTrigger):
    """Changes no image and no caption.

    Its model gives the clean accuracy (CA) without an attack, and the clean-model attack success
    rate (ASR) under the triggers of the other attacks.
    """

    def select(self, context: AttackContext) -> PoisonedRows:
        """Return no rows."""
        return PoisonedRows()

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images unchanged."""
        return images
