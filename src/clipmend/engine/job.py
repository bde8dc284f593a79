"""What a stage is given: its settings, the finished cells that it reads, and a folder to fill."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmend.engine.cell import Place


@dataclass(frozen=True)
class Input:
    """A finished cell that a job reads."""

    cell: str
    folder: Path
    stage: str
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]

    @classmethod
    def of_card(cls, cell: str, folder: Path, card: Mapping[str, Any]) -> "Input":
        """Return the cell of this name in a folder, as its card describes it."""
        fields = ("stage", "method", "seed", "settings", "shared")
        return cls(cell, folder, *(card[field] for field in fields))

    @property
    def place(self) -> Place:
        """Where the cell stands in the grid."""
        return Place.parse(self.cell)


@dataclass(frozen=True)
class Job:
    """What the ``run`` of a stage is given.

    Attributes:
        cell: ``<stage>/...``, the folder of the cell below ``results/``.
        method: as in ``params.yaml``; for ``download`` the source (``scenes``, ``pairs``); else "".
        seed: None for the stages that no seed changes, ``download`` and ``report``.
        settings: the method's own settings, as resolved.
        shared: the settings of the whole stage, such as ``target`` or ``model``.
        device: ``cpu`` or ``cuda``.
        inputs: the finished cells that the job reads, by role.
        out: an empty folder; the files written here become the cell.
        work: a folder that survives a kill, for this key alone; a job resumes from it.
    """

    cell: str
    stage: str
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]
    device: str
    inputs: Mapping[str, Input]
    out: Path
    work: Path

    @property
    def place(self) -> Place:
        """Where the cell stands in the grid."""
        return Place.parse(self.cell)
