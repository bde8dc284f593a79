"""What is stale and why, what is damaged, and what the store holds: reading only, no lock."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipmend.engine import cards, grid, locks, params, plan, store
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import INDEX, Index
from clipmend.engine.plan import PLAN
from clipmend.engine.runner import WORK
from clipmend.engine.store import DAMAGED, STORE


def describe() -> str:
    """Return a line for each stale cell with its reason, and a line that counts them."""
    index = Index()
    cells = grid.cells(params.load(), index)
    lines = []
    for name, why in plan.faults(cells, index).items():
        waits = " (waits in the store)" if store.has(cells[name].key) else ""
        lines.append(f"{name}: {why}{waits}")
    return "\n".join([*lines, f"{len(lines)} of {len(cells)} cells are stale."])


def damaged() -> list[str]:
    """Return a line for each cell whose files are not what its card says, all bytes read."""
    index = Index(Path("/dev/null"))
    return [
        f"{cell}: {why}"
        for cell, card in cards.below(RESULTS)
        if (why := _damage(RESULTS / cell, card, index)) is not None
    ]


def _damage(folder: Path, card: dict[str, Any] | None, index: Index) -> str | None:
    if card is None:
        return f"{cards.CARD} cannot be read"
    if not plan.is_genuine(card):
        return f"{cards.CARD} does not fit its key"
    return cards.damage(folder, card, index)


def prune(days: float) -> str:
    """Remove what has waited longer than ``days``: stored cells, and work on cells of no plan.

    What was set aside as damaged goes too. Return what was done.
    """
    locks.hold_main()
    limit = time.time() - days * 86400
    wanted = {cell.key for cell in plan.load().cells.values()} if PLAN.is_file() else set()
    stored = _remove(path for path in STORE.glob("*") if path.stat().st_mtime <= limit)
    begun = (path for path in WORK.glob("*") if path.name not in wanted)
    left = _remove(path for path in begun if path.stat().st_mtime <= limit)
    shutil.rmtree(DAMAGED, ignore_errors=True)
    INDEX.unlink(missing_ok=True)
    return f"{stored} cells left the store; {left} begun and no longer wanted were removed."


def _remove(folders: Iterator[Path]) -> int:
    found = list(folders)
    for folder in found:
        shutil.rmtree(folder)
    return len(found)
