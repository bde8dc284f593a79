"""The state of ``results/`` and of the store: stale cells, damaged cells, and pruning."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipmend.engine import cards, files, grid, locks, params, plan, schema, store
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import INDEX, Index
from clipmend.engine.plan import PLAN
from clipmend.engine.printing import printable
from clipmend.engine.runner import WORK
from clipmend.engine.store import DAMAGED, STORE
from clipmend.errors import ArtifactError, PlanError
from clipmend.methods import table
from clipmend.methods.sources import bad_rows
from clipmend.methods.sources.bad_rows import FACTS, LEDGER


def describe() -> str:
    """Return a line for each stale cell with its reason, and their number. Takes no lock.

    A corpus that was made without some rows has a line too. So has a method outside the grid whose
    source cannot be read.
    """
    index = Index()
    cells = grid.cells(params.load(), index)
    faults = plan.faults(cells, index)
    lines = []
    for name, why in faults.items():
        stored = " (in the store)" if store.has(cells[name].key) else ""
        lines.append(f"{name}: {why}{stored}")
    stale = f"{len(lines)} of {len(cells)} cells are stale."
    corpora = [name for name in cells if name.startswith("download/") and name not in faults]
    left_out = [f"{name}: {line}" for name in corpora for line in _left_out(RESULTS / name)]
    return "\n".join(map(printable, [*lines, *_unread_methods(), *left_out, stale]))


def _unread_methods() -> Iterator[str]:
    """Yield a line for each method whose source cannot be read."""
    for stage, methods in table.METHODS.items():
        for name in methods:
            try:
                schema.declaration(*table.reference(stage, name))
            except PlanError as error:
                yield f"{stage} method {name}, not in this grid: {error}"


def _left_out(corpus: Path) -> list[str]:
    """Return how many rows a corpus lacks: rows that cannot be used, and addresses without image.

    A stranger's corpus may have links in the place of these files, and anything in them.
    """
    if not all(cards.is_own(corpus, name) for name in (LEDGER, FACTS)):
        return []
    try:
        line = bad_rows.summary_of(corpus)
        return [*([line] if line is not None else []), *_without_image(corpus)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ["the list of its bad rows cannot be read"]


def _without_image(corpus: Path) -> Iterator[str]:
    if (corpus / FACTS).is_file():
        splits = json.loads((corpus / FACTS).read_text(encoding="utf-8"))["splits"]
        for name, counts in splits.items():
            if name != "definition":
                yield f"{counts['live']} of {counts['sampled']} rows of {name} gave an image"


def damaged() -> list[str]:
    """Return a line for each cell or file that is not as its job wrote it. Reads all bytes.

    Raises:
        ArtifactError: ``results/`` has no cell.
    """
    locks.check_folders()
    index = Index(Path("/dev/null"))  # so that no earlier hash is trusted
    made = dict(cards.below(RESULTS))
    if not made:
        raise ArtifactError(f"{RESULTS}/ has no cell to verify; `snakemake` makes them.")
    reasons = {cell: _damage(cell, made, index) for cell in made}
    named = {
        f"{cell}/{name}"
        for cell, card in made.items()
        for name in (cards.CARD, *(card or {"outputs": ()})["outputs"])
    }
    strays = [
        name
        for name in cards.names(RESULTS)
        if name not in named and not _is_beside(name) and _owner(name, made) is None
    ]
    lines = [f"{cell}: {why}" for cell, why in reasons.items() if why is not None]
    return [*lines, *(f"{name}: no card names this file" for name in strays)]


def _is_beside(name: str) -> bool:
    """Return whether DVC wrote a file beside the stages, or a file manager wrote it anywhere."""
    path = RESULTS / name
    is_regular = path.is_file() and not path.is_symlink()
    return is_regular and (name in locks.BESIDE or path.name == locks.BESIDE[1])


def _owner(name: str, made: Mapping[str, Any]) -> str | None:
    """Return the cell of a file whose card cannot be read, which is reported instead of it."""
    above = (path.as_posix() for path in Path(name).parents)
    return next((cell for cell in above if cell in made and made[cell] is None), None)


def _damage(cell: str, made: Mapping[str, dict[str, Any] | None], index: Index) -> str | None:
    """Return how a cell differs from what its job wrote, or None."""
    card = made[cell]
    if card is None:
        return f"{cards.CARD} cannot be read"
    if card["cell"] != cell:
        return f"{cards.CARD} is that of {card['cell']}"
    if not cards.is_genuine(card):
        return f"{cards.CARD} does not fit its key"
    stages = {name.partition("/")[0] for name in made}
    for read in card["inputs"].values():
        other = made.get(read["cell"])
        # A stage without any cell was not pulled, as in a clone that has the report alone.
        if read["cell"] not in made and read["cell"].partition("/")[0] in stages:
            return f"input {read['cell']} is missing"
        if other is not None and cards.as_read(other) != read:
            return f"input {read['cell']} has other bytes than those it read"
    stored = cards.read(STORE / card["key"])
    if stored is not None and stored["key"] == card["key"] and stored["outputs"] != card["outputs"]:
        return f"{cards.CARD} differs from the one that its job stored"
    return cards.damage(RESULTS / cell, card, index)


def prune(days: float) -> str:
    """Delete stored cells and unfinished jobs of no plan that are older than ``days``.

    Damaged cells are deleted whatever their age. Returns the numbers in a sentence.
    """
    locks.hold_main()  # a run that restores a cell must not lose it meanwhile
    limit = time.time() - days * 86400
    planned = {cell.key for cell in plan.load().cells.values()} if PLAN.is_file() else set()
    stored = _remove(path for path in STORE.glob("*") if path.lstat().st_mtime <= limit)
    unfinished = (path for path in WORK.glob("*") if path.name not in planned)
    left = _remove(path for path in unfinished if path.lstat().st_mtime <= limit)
    files.remove(DAMAGED)
    files.remove(INDEX)  # it lists inodes that are gone; the next run writes it anew
    return f"Deleted {stored} stored cells and {left} unfinished jobs."


def _remove(paths: Iterator[Path]) -> int:
    removed = list(paths)
    for path in removed:
        files.remove(path)
    return len(removed)
