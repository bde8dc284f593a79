"""What of the grid is there already, looked at without reading large files or taking a lock."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmend.engine import cards, grid, plan, store
from clipmend.engine.cell import RESULTS, Cell
from clipmend.engine.index import Glance
from clipmend.engine.params import Params
from clipmend.engine.store import STORE
from clipmend.tools.estimate.costs import wall_times

BENCHMARKS = Path("logs/benchmark")


@dataclass(frozen=True)
class Survey:
    """The grid, and what this folder knows of it.

    Attributes:
        made: cells whose card and whose files' sizes are what is wanted; their bytes are not read.
        stored: cells that wait in the store and come back from there.
        sizes: bytes of the cells that are there, by name.
        seconds: of the jobs that Snakemake timed in this folder, by name of cell.
        changed: of timed cells that are wanted otherwise now: the cell as it was made.
    """

    params: Params
    cells: Mapping[str, Cell]
    made: frozenset[str]
    stored: frozenset[str]
    sizes: Mapping[str, float]
    seconds: Mapping[str, float]
    changed: Mapping[str, Cell]

    @property
    def missing(self) -> list[str]:
        """Return the user's own files that the grid names and that are not there yet."""
        named = dict.fromkeys(name for cell in self.cells.values() for name in cell.files)
        return [name for name in named if not grid.outside(name).exists()]

    @property
    def remaining(self) -> list[str]:
        """Return the cells that a run would make."""
        return [name for name in self.cells if name not in self.made | self.stored]


def survey(settled: Params) -> Survey:
    """Look at the folder.

    Raises:
        ClipmendError: the parameters do not describe a grid.
    """
    cells = grid.cells(settled, Glance())
    seconds = wall_times([BENCHMARKS]) if BENCHMARKS.is_dir() else {}
    present: dict[str, Mapping[str, Any]] = {}
    made, stored, changed = set(), set(), {}
    for name, cell in cells.items():
        card = cards.read(RESULTS / name)
        if card is not None and _proves(card, cell, present, RESULTS / name):
            made.add(name)
            present[name] = card
            continue
        if card is not None and name in seconds and card["key"] != cell.key:
            changed[name] = _as_made(card, cell)
        waiting = cards.read(STORE / cell.key) if store.has(cell.key) else None
        if waiting is not None and _proves(waiting, cell, present, STORE / cell.key):
            stored.add(name)
            present[name] = waiting
    sizes = {name: _weight(card) for name, card in present.items()}
    return Survey(settled, cells, frozenset(made), frozenset(stored), sizes, seconds, changed)


def store_bytes(kept: Mapping[str, Cell]) -> int:
    """Return the bytes of what waits in the store and is no cell of the present grid.

    What is one costs nothing beside ``results/``: both are the same files.
    """
    wanted = {cell.key for cell in kept.values()}
    found = (cards.read(path) for path in STORE.glob("*") if path.name not in wanted)
    return sum(int(_weight(card)) for card in found if card is not None)


def _proves(
    card: Mapping[str, Any], cell: Cell, present: Mapping[str, Mapping[str, Any]], folder: Path
) -> bool:
    if card["key"] != cell.key or any(name not in present for name in cell.inputs.values()):
        return False
    if card["inputs"] != plan.as_read(cell, present):
        return False
    files = {folder / name: written["size"] for name, written in card["outputs"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in files.items())


def _as_made(card: Mapping[str, Any], cell: Cell) -> Cell:
    """Return a cell with the settings under which its card says it was made."""
    return Cell(
        name=cell.name,
        stage=cell.stage,
        method=cell.method,
        seed=cell.seed,
        settings=card.get("settings", {}),
        shared=card.get("shared", {}),
        code={},
        files={},
        inputs=cell.inputs,
    )


def _weight(card: Mapping[str, Any]) -> float:
    return float(sum(written["size"] for written in card["outputs"].values()))
