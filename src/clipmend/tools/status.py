"""The state of ``results/`` and of the store: stale cells, damaged cells, and pruning."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from clipmend.engine import cards, grid, locks, params, plan, store
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import INDEX, Index
from clipmend.engine.plan import PLAN
from clipmend.engine.runner import WORK
from clipmend.engine.store import DAMAGED, STORE
from clipmend.methods.sources import bad_rows
from clipmend.methods.sources.bad_rows import FACTS


def describe() -> str:
    """Return a line for each stale cell with its reason, and their number. Takes no lock.

    A corpus that was made without some rows has a line too.
    """
    index = Index()
    cells = grid.cells(params.load(), index)
    lines = []
    for name, why in plan.faults(cells, index).items():
        stored = " (in the store)" if store.has(cells[name].key) else ""
        lines.append(f"{name}: {why}{stored}")
    stale = f"{len(lines)} of {len(cells)} cells are stale."
    corpora = [name for name in cells if name.startswith("download/")]
    left_out = [f"{name}: {line}" for name in corpora for line in _left_out(RESULTS / name)]
    return "\n".join([*lines, *left_out, stale])


def _left_out(corpus: Path) -> Iterator[str]:
    """Yield how many rows a corpus lacks: rows that cannot be used, and addresses without image."""
    if (line := bad_rows.summary_of(corpus)) is not None:
        yield line
    if (corpus / FACTS).is_file():
        splits = json.loads((corpus / FACTS).read_text(encoding="utf-8"))["splits"]
        for name, counts in splits.items():
            if name != "definition":
                yield f"{counts['live']} of {counts['sampled']} rows of {name} gave an image"


def damaged() -> list[str]:
    """Return a line for each cell whose files differ from its card. Reads all bytes."""
    index = Index(Path("/dev/null"))  # so that no earlier hash is trusted
    lines = []
    for cell, card in cards.below(RESULTS):
        if card is None:
            why: str | None = f"{cards.CARD} cannot be read"
        elif not plan.is_genuine(card):
            why = f"{cards.CARD} does not fit its key"
        else:
            why = cards.damage(RESULTS / cell, card, index)
        lines += [] if why is None else [f"{cell}: {why}"]
    return lines


def prune(days: float) -> str:
    """Delete stored cells and unfinished jobs of no plan that are older than ``days``.

    Damaged cells are deleted whatever their age. Returns the numbers in a sentence.
    """
    locks.hold_main()  # a run that restores a cell must not lose it meanwhile
    limit = time.time() - days * 86400
    planned = {cell.key for cell in plan.load().cells.values()} if PLAN.is_file() else set()
    stored = _remove(path for path in STORE.glob("*") if path.stat().st_mtime <= limit)
    unfinished = (path for path in WORK.glob("*") if path.name not in planned)
    left = _remove(path for path in unfinished if path.stat().st_mtime <= limit)
    shutil.rmtree(DAMAGED, ignore_errors=True)
    INDEX.unlink(missing_ok=True)  # it lists inodes that are gone; the next run writes it anew
    return f"Deleted {stored} stored cells and {left} unfinished jobs."


def _remove(folders: Iterator[Path]) -> int:
    removed = list(folders)
    for folder in removed:
        shutil.rmtree(folder)
    return len(removed)
