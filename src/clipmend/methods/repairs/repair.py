"""What every baseline repair is: tasks for the loop, one after another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.model.clip import Clip
from clipmend.model.fit import Task


@dataclass(frozen=True)
class Detected:
    """What the detector found that a repair names in its setting ``detector``.

    Attributes:
        score: one a training pair, higher = more suspect.
        model: reads a model that the detector made on the way, by file name.
    """

    score: Float[Tensor, " samples"]
    model: Callable[[str], Clip]


@dataclass(frozen=True)
class Means:
    """The victim, and what its defender may have; a repair's ``needs`` say what it uses.

    Attributes:
        model: the victim, which a repair changes in place.
        trusted: the defender's small clean set.
        train: reads the training pairs, poison among them, without labels and marks.
        fresh: makes an untrained model of the same kind from a seed.
        slipped: reads that many poisoned pairs: what an attacker got into the trusted set.
        detected: reads what the detector found.
    """

    model: Clip
    trusted: Pairs
    train: Callable[[], Pairs]
    fresh: Callable[[int], Clip]
    slipped: Callable[[int], Pairs]
    detected: Callable[[], Detected]


@runtime_checkable
class Repair(Protocol):
    """A frozen dataclass; its fields are its settings; ``detector`` names whose scores it reads.

    ``needs`` are among ``trusted`` (clean pairs) and ``train`` (the poisoned training set).
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """What a defender must have to use it."""

    @property
    def control(self) -> bool:
        """Whether it uses what no defender has."""

    def tasks(self, means: Means, generator: torch.Generator) -> Iterator[Task]:
        """Yield what to minimize; a later task may look at the model that the earlier ones left.

        Args:
            generator: for what is drawn outside the loop.
        """

    def texts(self) -> tuple[str, ...]:
        """Return texts, beside the captions, that the repair may show to the model."""
