"""What every unlearner is: a few suspects, the text to take from them, and a task."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.repairs.subset import Subset
from clipmend.model.clip import Clip
from clipmend.model.fit import Task


@dataclass(frozen=True)
class Evidence:
    """What an unlearner may look at.

    Attributes:
        victim: the model to mend, which the loop will change in place.
        overfitted: the detector's overfitted model; the victim itself if it made none.
        train: the training pairs, without poison marks unless the method is a control.
        score: the detector's, higher = more suspect.
        suspects: rows of the pairs that the detector took for suspects; all if it does not say.
    """

    victim: Clip
    overfitted: Clip
    train: Pairs
    score: Float[Tensor, " samples"]
    suspects: Int[Tensor, " suspects"]


@dataclass(frozen=True)
class Unlearning:
    """What to do: the task, and what it is about.

    Attributes:
        subset: the pairs chosen, and why.
        texts: the part of each one's caption that is unlearned.
        directions: what these parts put into the captions' embeddings, as the victim has it.
        task: None where nothing was found, and the model stays as it is.
    """

    subset: Subset
    texts: tuple[str, ...]
    directions: Float[Tensor, "chosen dim"]
    task: Task | None


@runtime_checkable
class Unlearner(Protocol):
    """A frozen dataclass; its fields are its settings; ``detector`` names whose scores it reads."""

    @property
    def control(self) -> bool:
        """Whether it uses what no defender has, or chooses at random on purpose."""

    def plan(self, evidence: Evidence, generator: torch.Generator) -> Unlearning:
        """Return what to unlearn, and how."""
