"""The state of a training run, and the file from which a killed run resumes."""

import copy
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clipmend.engine import files
from clipmend.errors import ArtifactError, TrainingError
from clipmend.model.clip import Clip

log = logging.getLogger(__name__)
CHECKPOINT = "fit.pt"
_SEAL = 32  # bytes of the hash at the end of a checkpoint
_CHUNK = 1 << 20  # bytes that are hashed at once


@dataclass(frozen=True)
class Point:
    """One row of a curve file; ``measured`` holds the numbers of ``Hooks.measure``."""

    step: int
    epoch: float
    loss: float | None
    measured: dict[str, float]


@dataclass
class State:
    """Everything that the next step depends on.

    Attributes:
        loss: the loss; if it is an ``nn.Module``, its state is part of this state.
        epoch: number of finished epochs.
        converged: the epoch after which the learning rate falls; None before convergence.
        order: the rows in the order of the present epoch; None between epochs.
        losses: the loss of each finished step of the present epoch, on the device of the model.
    """

    model: Clip
    loss: object
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    curve: list[Point]
    epoch: int = 0
    converged: int | None = None
    order: Int[Tensor, " samples"] | None = None
    losses: list[Tensor] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Number of finished steps of the present epoch."""
        return len(self.losses)

    def is_over(self, epochs: int, cooldown: int) -> bool:
        """Return True after ``epochs`` epochs, or ``cooldown`` epochs after convergence."""
        last = epochs if self.converged is None else self.converged + cooldown
        return self.epoch >= min(last, epochs)

    def mean_loss(self) -> float:
        """Return the mean loss of the present epoch's steps.

        Raises:
            TrainingError: it is not finite, or the epoch had no step.
        """
        if not self.losses:
            raise TrainingError(
                "No batch of this training has two pairs, and a contrastive loss needs two; "
                "give it more pairs or a larger batch."
            )
        # The one line of the loop that waits for a GPU.
        mean = float(torch.stack(self.losses).mean())
        if not torch.isfinite(torch.tensor(mean)):
            peak = self.optimizer.defaults["lr"]
            raise TrainingError(
                f"The loss is {mean} in epoch {self.epoch + 1}; try a learning rate below "
                f"{peak} first."
            )
        return mean

    def saved(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, which load without unpickling objects."""
        return {
            "model": self.model.net.state_dict(),
            "loss": self.loss.state_dict() if isinstance(self.loss, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "converged": self.converged,
            "order": self.order,
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "curve": [(p.step, p.epoch, p.loss, p.measured) for p in self.curve],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Set the state to a saved one; a state of another training raises one of many errors."""
        self.model.net.load_state_dict(saved["model"])
        if isinstance(self.loss, nn.Module):
            self.loss.load_state_dict(saved["loss"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.set_state(saved["generator"])
        self.epoch, self.converged = saved["epoch"], saved["converged"]
        self.order = saved["order"]
        self.losses = list(saved["losses"].to(self.model.device))
        self.curve = [Point(*row) for row in saved["curve"]]


class Checkpoints:
    """Writes the state of a training run to a folder, atomically, and reads it back.

    Args:
        work: the folder; None: no checkpoint is written.
        every: seconds between checkpoints inside an epoch.
        writes: whether this process writes; the others only read.
    """

    def __init__(self, work: Path | None, every: float, *, writes: bool = True) -> None:
        self._work, self._every, self._writes = work, every, writes
        self._last = time.monotonic()

    def load(self, state: State, can_resume: Callable[[int], bool] | None = None) -> bool:
        """Restore the state of a killed run, and return whether that was possible.

        A file of any other content is left, with a warning, and overwritten by the next checkpoint.

        Args:
            can_resume: whether a run may continue after this number of epochs.
        """
        if self._work is None:
            return False
        path = self._work / CHECKPOINT
        if not path.is_file():
            if self._writes:
                files.remove(path)
            return False
        fresh = copy.deepcopy(state.saved())
        try:
            state.restore(self._read(path))
            if can_resume is not None and not can_resume(state.epoch):
                raise ValueError("files that were saved beside it are missing or damaged")
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a foreign file can raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s is not used (%s); training starts again.", path, reason[:200])
            state.restore(fresh)
            return False
        return True

    def _read(self, path: Path) -> dict[str, Any]:
        """Return the content of a checkpoint that was written whole, into this folder."""
        with path.open("rb") as file:
            digest = _digest(file, path.stat().st_size - _SEAL)
            if digest != file.read():
                raise ValueError("it is incomplete or damaged")
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if saved["work"] != str(self._work):
            raise ValueError("it is of another training")
        return saved

    def save_if_due(self, state: State) -> None:
        """Save inside an epoch if enough time has passed since the last checkpoint.

        Raises:
            TrainingError: the loss is not finite; the last checkpoint stays.
            ArtifactError: as ``save``.
        """
        is_due = self._writes and time.monotonic() - self._last >= self._every
        if self._work is not None and is_due:
            state.mean_loss()
            self.save(state)

    def save(self, state: State) -> None:
        """Save now.

        Raises:
            ArtifactError: the file cannot be written; the last checkpoint stays.
        """
        if self._work is None or not self._writes:
            return
        half = self._work / "fit.half"
        try:
            torch.save({**state.saved(), "work": str(self._work)}, half)
            with half.open("r+b") as file:  # the hash shows damage that torch does not notice
                file.write(_digest(file, half.stat().st_size))
            half.replace(self._work / CHECKPOINT)  # atomic: a kill leaves the old or the new one
        except (OSError, RuntimeError) as error:  # torch has no error of its own for a full disk
            half.unlink(missing_ok=True)
            reason = " ".join(str(cast("Exception", error)).split())
            raise ArtifactError(
                f"No checkpoint can be written into {self._work} ({reason[:200]}). The last one is "
                "intact: make room and run again, and training resumes from it."
            ) from error
        self._last = time.monotonic()


def is_saved(model: Clip, path: Path) -> bool:
    """Return whether a file holds weights of the model's shapes, whole."""
    shapes = {name: list(value.shape) for name, value in model.full_state().items()}
    try:
        with safe_open(path, "pt") as weights:
            return {name: weights.get_slice(name).get_shape() for name in weights.keys()} == shapes  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the first ``size`` bytes of a file, and stop behind them."""
    digest = hashlib.sha256()
    for at in range(0, size, _CHUNK):
        digest.update(file.read(min(_CHUNK, size - at)))
    return digest.digest()
