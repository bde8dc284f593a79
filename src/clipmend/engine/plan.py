"""Arranges ``results/`` so that it holds what the present parameters and code prove, and no more.

Then missing means stale, and Snakemake has to run exactly what is missing.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipmend.engine import cards, grid, locks, params, store
from clipmend.engine.cell import Cell
from clipmend.engine.index import Index
from clipmend.engine.store import RESULTS
from clipmend.errors import PlanError, suggestion
from clipmend.methods.table import STAGES

PLAN = Path(".clipmend/plan.json")
WHEN = 1_000_000_000 * 10**9  # the one mtime of proven files, in ns: any job's output is newer


@dataclass(frozen=True)
class Plan:
    """What a run makes; jobs take it from here, not from a ``params.yaml`` edited meanwhile."""

    device: str
    cells: Mapping[str, Cell]

    def __getitem__(self, name: str) -> Cell:
        try:
            return self.cells[name]
        except KeyError:
            stage = name.partition("/")[0]
            known = (cell for cell in self.cells if cell.startswith(stage))
            near = suggestion(name, known).partition(" Known: ")[0]
            raise PlanError(
                f"No cell {name!r} in the plan. {near if near.startswith('Did') else ''} "
                "The plan is made from params.yaml when the Snakefile is read (`snakemake -n`)."
            ) from None


def arrange() -> Plan:
    """Return the plan, having arranged ``results/`` by it, and hold the lock of the main process.

    Raises:
        ClipmendError: the parameters do not describe a run, or another run holds the lock.
    """
    settled = params.load()
    locks.hold_main()
    index = Index()
    plan = Plan(settled.device, grid.cells(settled, index))
    present: dict[str, Any] = {}
    for cell in plan.cells.values():
        _arrange_cell(cell, present, index)
    _sweep(plan, present, index)
    index.save()
    _freeze(plan)
    return plan


def load() -> Plan:
    """Return the plan as the main process froze it.

    Raises:
        PlanError: there is none.
    """
    try:
        frozen = json.loads(PLAN.read_bytes())
    except FileNotFoundError:
        raise PlanError(
            "There is no plan in this folder yet; `snakemake -n` makes one from params.yaml."
        ) from None
    cells = {name: Cell(name=name, **cell) for name, cell in frozen["cells"].items()}
    return Plan(frozen["device"], cells)


def fault(
    cell: Cell, card: Mapping[str, Any] | None, present: Mapping[str, Any], index: Index
) -> str | None:
    """Return why a cell is not proven, in a few words, or None if it is.

    Args:
        cell: what is wanted.
        card: the card in its folder.
        present: the cards of all proven cells that it may read.
        index: knows the hashes of files.
    """
    if card is None:
        return "not made yet" if not (RESULTS / cell.name).exists() else "its card is missing"
    if not is_genuine(card):
        return "its card does not fit its key"
    if card["key"] != cell.key:
        return "; ".join(_differences(cell, card)) or "an input changed"
    stale = [name for name in cell.inputs.values() if name not in present]
    if stale:
        return f"input {stale[0]} is stale"
    expected = as_read(cell, present)
    for role, read in card["inputs"].items():
        if expected.get(role) != read:
            return f"input {read['cell']} has other bytes than those it read"
    return cards.damage(RESULTS / cell.name, card, index)


def faults(cells: Mapping[str, Cell], index: Index) -> dict[str, str]:
    """Return why each cell that is not proven is not, of those of a plan, stage after stage."""
    present: dict[str, Any] = {}
    found: dict[str, str] = {}
    for cell in sorted(cells.values(), key=_turn):
        card = cards.read(RESULTS / cell.name)
        why = fault(cell, card, present, index)
        if why is None:
            present[cell.name] = card
        else:
            found[cell.name] = why
    return found


def _turn(cell: Cell) -> tuple[int, bool]:
    """Return when a cell is judged: after those that it reads. A frozen plan is sorted by name."""
    goes_on = any(name.partition("/")[0] == cell.stage for name in cell.inputs.values())
    return STAGES.index(cell.stage), goes_on  # what it goes on from starts from nothing


def as_read(cell: Cell, present: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job that runs now would note of its inputs."""
    return {role: cards.as_read(present[name]) for role, name in cell.inputs.items()}


def is_genuine(card: Mapping[str, Any]) -> bool:
    """Say whether a card's key is the hash of what the card says went into it."""
    try:
        inputs = {role: read["key"] for role, read in card["inputs"].items()}
        return bool(grid.key(card, inputs) == card["key"])
    except (KeyError, TypeError, AttributeError):
        return False


def _differences(cell: Cell, card: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wanted otherwise than the card has it, inputs last."""
    wanted = cell.ingredients()
    for part, what in _PARTS.items():
        old, new = card[part] or {}, wanted[part] or {}
        if not isinstance(new, Mapping) or not isinstance(old, Mapping):
            old, new = {part: old}, {part: new}
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                change = f": {old.get(name)} -> {new.get(name)}" if what == "setting" else ""
                yield f"{what} {name}{change}"
    read = {role: other["cell"] for role, other in card["inputs"].items()}
    if read != cell.inputs:
        yield "reads other cells"


_PARTS = {
    "method": "setting",
    "seed": "setting",
    "settings": "setting",
    "shared": "setting",
    "code": "code of",
    "files": "file",
}


def _arrange_cell(cell: Cell, present: dict[str, Any], index: Index) -> None:
    """Leave a cell's folder proven and in ``present``, or empty."""
    folder = RESULTS / cell.name
    card = cards.read(folder)
    if fault(cell, card, present, index) is not None:
        if not locks.is_free(cell.name):
            return  # a job that outlived its run is at work there; ours will wait for it
        _stow(folder, card, index)
        card = _restored(cell, present, index)
    if card is not None:
        store.put(folder, card, index)
        _settle(folder, card, index)
        present[cell.name] = card


def _restored(cell: Cell, present: Mapping[str, Any], index: Index) -> dict[str, Any] | None:
    """Bring a cell back if all its inputs are proven, and are what the stored one was made from."""
    if all(name in present for name in cell.inputs.values()) and store.restore(
        cell.key, RESULTS / cell.name, as_read(cell, present), index
    ):
        return cards.read(RESULTS / cell.name)
    return None


def _stow(folder: Path, card: Mapping[str, Any] | None, index: Index) -> None:
    """Empty a cell's folder: into the store if it is consistent in itself, away otherwise."""
    if (
        card is not None
        and folder == RESULTS / card["cell"]
        and is_genuine(card)
        and cards.damage(folder, card, index) is None
    ):
        store.put(folder, card, index)
        for name in (cards.CARD, *card["outputs"]):
            (folder / name).unlink()
    for name in sorted(cards.names(folder), key=lambda name: name != cards.CARD):
        store.discard(folder / name)


def _settle(folder: Path, card: Mapping[str, Any], index: Index) -> None:
    """Give all files of a proven cell the one mtime, links and what they point to."""
    for name in (cards.CARD, *card["outputs"]):
        path = folder / name
        digest = index.sha256(path)
        for follow in (True, False):
            if path.stat(follow_symlinks=follow).st_mtime_ns != WHEN:
                os.utime(path, ns=(WHEN, WHEN), follow_symlinks=follow)
        index.carry(path, digest)


def _sweep(plan: Plan, present: Mapping[str, Any], index: Index) -> None:
    """Clear the stages' folders of cells outside the grid and of files on no card."""
    kept = {
        RESULTS / cell / name
        for cell, card in present.items()
        for name in (cards.CARD, *card["outputs"])
    }
    open_cells = plan.cells.keys() - present.keys()
    busy = [RESULTS / name for name in open_cells if not locks.is_free(name)]
    for stage in STAGES:
        top = RESULTS / stage
        top.mkdir(parents=True, exist_ok=True)
        strays = [
            path
            for path in (top / name for name in cards.names(top))
            if path not in kept and path.name != ".gitignore" and not _is_below(path, busy)
        ]
        for path in strays:
            if path.name == cards.CARD:
                _stow(path.parent, cards.read(path.parent), index)
        for path in strays:
            if path.is_symlink() or path.exists():
                store.discard(path)
        _remove_empty(top)


def _remove_empty(top: Path) -> None:
    """Remove the empty folders below a stage's; that one stays, because DVC wants its outputs."""
    for name, _, _ in os.walk(top, topdown=False):
        folder = Path(name)
        if folder != top and not any(folder.iterdir()):
            folder.rmdir()


def _is_below(path: Path, folders: list[Path]) -> bool:
    return any(folder in path.parents for folder in folders)


def _freeze(plan: Plan) -> None:
    cells = {name: asdict(cell) for name, cell in plan.cells.items()}
    for cell in cells.values():
        del cell["name"]
    fresh = PLAN.with_suffix(".new")
    fresh.write_text(cards.canonical({"device": plan.device, "cells": cells}))
    fresh.replace(PLAN)
