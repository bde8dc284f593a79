"""Arrange ``results/`` so that it holds what the present parameters and code prove, and no more.

A file that is missing is then stale, and Snakemake runs exactly the jobs whose files are missing.
The plan is frozen in a database, so that a job reads its own entry alone, however large the grid.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmend.engine import cards, files, grid, limits, locks, params, store
from clipmend.engine.cell import RESULTS, Cell
from clipmend.engine.index import Index
from clipmend.engine.limits import Limits
from clipmend.errors import PlanError, suggestion
from clipmend.methods.table import STAGES
from clipmend.model.arithmetic import Arithmetic

PLAN = Path(".clipmend/plan.sqlite")
PROVEN_MTIME = 1_000_000_000 * 10**9  # ns; the one mtime of proven files, older than any new output
_SCHEMA = """
CREATE TABLE device (name TEXT NOT NULL);
CREATE TABLE limits (document TEXT NOT NULL);
CREATE TABLE code (id INTEGER PRIMARY KEY, digests TEXT NOT NULL);
CREATE TABLE cell (name TEXT PRIMARY KEY, code INTEGER NOT NULL, fields TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Plan:
    """Every cell of the grid by name, and the device that its jobs use."""

    device: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Entry:
    """What one job needs of the plan: its cell, and the cells that it reads, by name."""

    device: str
    cell: Cell
    inputs: Mapping[str, Cell]

    @property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic of the job.

        Raises:
            PlanError: the plan was made by a clipmend that had no such setting.
        """
        chosen: Arithmetic | None = self.cell.shared.get("arithmetic")
        if chosen is None:
            raise PlanError("The plan is of an earlier clipmend; `snakemake -n` makes it again.")
        return chosen


def arrange() -> Plan:
    """Arrange ``results/``, take the lock of the main process, and return the frozen plan.

    Raises:
        ClipmendError: the parameters do not describe a run, or another run holds the lock.
    """
    parameters = params.load()
    locks.hold_main()
    files.remove_strangers(locks.LOGS)  # a job writes its log there, whatever has its name
    index = Index()
    plan = Plan(parameters.device, grid.cells(parameters, index))
    present: dict[str, Any] = {}
    for cell in plan.cells.values():
        _arrange_cell(cell, present, index)
    _remove_strays(plan, present, index)
    index.save()  # before the plan, so that jobs need not hash large files again
    asked = limits.limits(parameters)
    for cell in plan.cells.values():
        if cell.stage == "download" and cell.name in present:
            limits.check_finished(asked, cell)
    _freeze(plan, asked)
    return plan


def load() -> Plan:
    """Return the frozen plan with all its cells.

    Raises:
        PlanError: no plan was made yet, or it cannot be read.
    """
    with _frozen() as database:
        names = [name for (name,) in database.execute("SELECT name FROM cell")]
        return Plan(_device(database), _cells(database, names))


def entry(name: str) -> Entry:
    """Return one cell of the frozen plan with the cells that it reads.

    Raises:
        PlanError: no plan was made yet, it cannot be read, or it does not have the cell.
    """
    with _frozen() as database:
        cells = _cells(database, [name])
        if name not in cells:
            stage = name.partition("/")[0]
            names = [n for (n,) in database.execute("SELECT name FROM cell ORDER BY name")]
            near = suggestion(name, [n for n in names if n.startswith(stage)]).partition(" Known: ")
            raise PlanError(
                f"No cell {name!r} in the plan. {near[0] if near[0].startswith('Did') else ''} "
                "The plan is made from params.yaml when the Snakefile is read (`snakemake -n`)."
            )
        cell = cells[name]
        return Entry(_device(database), cell, _cells(database, list(cell.inputs.values())))


def key_of(name: str) -> str | None:
    """Return the key that the frozen plan gives a cell, or None if it has no such cell."""
    with _frozen() as database:
        cell = _cells(database, [name]).get(name)
    return None if cell is None else cell.key


def needs() -> Limits:
    """Return what the parameters of the frozen plan need of a corpus.

    Raises:
        PlanError: as ``load``.
    """
    with _frozen() as database:
        (document,) = database.execute("SELECT document FROM limits").fetchone()
        return Limits.of(json.loads(document))


@contextmanager
def _frozen() -> Iterator[sqlite3.Connection]:
    """Open the frozen plan for reading."""
    if not PLAN.is_file():
        raise PlanError("This folder has no plan yet; `snakemake -n` makes one from params.yaml.")
    # Immutable: the file is replaced, never changed, so no lock is needed on a shared file system.
    address = f"{PLAN.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            yield database
    except (
        sqlite3.Error,
        TypeError,
        ValueError,
        AttributeError,
        KeyError,
    ) as error:  # damaged, or of another clipmend
        raise PlanError(
            f"The plan in {PLAN} cannot be read ({error}); `snakemake -n` makes it again."
        ) from None


def _device(database: sqlite3.Connection) -> str:
    (name,) = database.execute("SELECT name FROM device").fetchone()
    return str(name)


def _cells(database: sqlite3.Connection, names: list[str]) -> dict[str, Cell]:
    """Return the cells of these names that the plan has."""
    code: dict[int, Mapping[str, str]] = {}
    cells = {}
    for name in names:
        row = database.execute("SELECT code, fields FROM cell WHERE name = ?", (name,)).fetchone()
        if row is None:
            continue
        number, fields = row
        if number not in code:
            query = "SELECT digests FROM code WHERE id = ?"
            code[number] = json.loads(database.execute(query, (number,)).fetchone()[0])
        cells[name] = Cell(name=name, code=code[number], **json.loads(fields))
    return cells


def fault(
    cell: Cell, card: Mapping[str, Any] | None, present: Mapping[str, Any], index: Index
) -> str | None:
    """Return why a cell is not proven, in a few words, or None if it is.

    Args:
        cell: the cell as the parameters want it.
        card: the card in its folder.
        present: the cards of all proven cells that it may read.
        index: the hashes of files.
    """
    if card is None:
        return "not made yet" if not (RESULTS / cell.name).exists() else "its card is missing"
    if not cards.is_genuine(card):
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
    """Return the reason why each unproven cell of a plan is not proven, in stage order."""
    present: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for cell in sorted(cells.values(), key=_turn):
        card = cards.read(RESULTS / cell.name)
        why = fault(cell, card, present, index)
        if why is None:
            present[cell.name] = card
        else:
            reasons[cell.name] = why
    return reasons


def _turn(cell: Cell) -> tuple[int, bool]:
    """Return a sort key that puts a cell after those that it reads."""
    # A victim that continues another one reads a cell of its own stage, which continues none.
    continues = any(name.partition("/")[0] == cell.stage for name in cell.inputs.values())
    return STAGES.index(cell.stage), continues


def as_read(cell: Cell, present: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job that runs now would record of its inputs."""
    return {role: cards.as_read(present[name]) for role, name in cell.inputs.items()}


def _differences(cell: Cell, card: Mapping[str, Any]) -> Iterator[str]:
    """Yield each difference between the planned cell and its card; changed inputs last."""
    planned = cell.ingredients()
    for part, what in _PARTS.items():
        old, new = card[part] or {}, planned[part] or {}
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
    store.make_way(folder)
    card = cards.read(folder)
    if fault(cell, card, present, index) is not None:
        if not locks.is_free(cell.name):
            return  # a job that outlived its run works there; the new job will wait for it
        _archive(folder, card, index)
        card = _restored(cell, present, index)
    if card is not None:
        store.put(folder, card, index)
        _set_mtime(folder, card, index)
        present[cell.name] = card


def _restored(cell: Cell, present: Mapping[str, Any], index: Index) -> dict[str, Any] | None:
    """Restore a cell if all its inputs are proven and the stored cell was made from them."""
    if store.is_misfiled(cell.key):
        store.refile()
    if all(name in present for name in cell.inputs.values()) and store.restore(
        cell.key, RESULTS / cell.name, as_read(cell, present), index
    ):
        return cards.read(RESULTS / cell.name)
    return None


def _archive(folder: Path, card: Mapping[str, Any] | None, index: Index) -> None:
    """Empty a cell's folder: into the store if the cell is consistent, else into quarantine."""
    if (
        card is not None
        and folder == RESULTS / card["cell"]
        and cards.is_genuine(card)
        and cards.damage(folder, card, index) is None
    ):
        store.put(folder, card, index)
        for name in set(cards.names(folder)) - {cards.CARD, *card["outputs"]}:
            store.discard(folder / name)
        store.drop(card["key"], folder)
    for name in sorted(cards.names(folder), key=lambda name: name != cards.CARD):
        store.discard(folder / name)


def _set_mtime(folder: Path, card: Mapping[str, Any], index: Index) -> None:
    """Give all files of a proven cell the one mtime: links, and the files that they point to."""
    for name in (cards.CARD, *card["outputs"]):
        path = folder / name
        digest = index.sha256(path)
        for follow in (True, False):
            if path.stat(follow_symlinks=follow).st_mtime_ns != PROVEN_MTIME:
                os.utime(path, ns=(PROVEN_MTIME, PROVEN_MTIME), follow_symlinks=follow)
        index.carry(path, digest)


def _remove_strays(plan: Plan, present: Mapping[str, Any], index: Index) -> None:
    """Remove cells outside the grid and files on no card from the folders of the stages."""
    kept = {
        RESULTS / cell / name
        for cell, card in present.items()
        for name in (cards.CARD, *card["outputs"])
    }
    open_cells = plan.cells.keys() - present.keys()
    busy = [RESULTS / name for name in open_cells if not locks.is_free(name)]
    for stage in STAGES:
        top = RESULTS / stage
        store.make_way(top)
        top.mkdir(parents=True, exist_ok=True)
        strays = [
            path
            for path in (top / name for name in cards.names(top))
            if path not in kept and not _is_below(path, busy)
        ]
        for path in strays:
            if path.name == cards.CARD:
                _archive(path.parent, cards.read(path.parent), index)
        for path in strays:
            if path.is_symlink() or path.exists():
                store.discard(path)
        _remove_empty(top)


def _remove_empty(top: Path) -> None:
    """Remove the empty folders below a stage's folder, which stays: DVC expects its outputs."""
    for name, _, _ in os.walk(top, topdown=False):
        folder = Path(name)
        if folder != top and not any(folder.iterdir()):
            folder.rmdir()


def _is_below(path: Path, folders: list[Path]) -> bool:
    return any(folder in path.parents for folder in folders)


def _freeze(plan: Plan, asked: Limits) -> None:
    fresh = PLAN.with_suffix(".new")  # replaced atomically: jobs of an earlier run may read the old
    files.remove(fresh)
    codes: dict[str, int] = {}  # the cells of a method share their code
    rows = []
    for cell in plan.cells.values():
        fields = {name: value for name, value in vars(cell).items() if name not in ("name", "code")}
        number = codes.setdefault(cards.canonical(cell.code), len(codes))
        rows.append((cell.name, number, cards.canonical(fields)))
    # The lock of the main process excludes other writers; some file systems have no sqlite locks.
    address = f"{fresh.absolute().as_uri()}?nolock=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database, database:
            database.executescript(_SCHEMA)
            database.execute("INSERT INTO device VALUES (?)", (plan.device,))
            document = cards.canonical(asked.document())
            database.execute("INSERT INTO limits VALUES (?)", (document,))
            numbers = [(number, code) for code, number in codes.items()]
            database.executemany("INSERT INTO code VALUES (?, ?)", numbers)
            database.executemany("INSERT INTO cell VALUES (?, ?, ?)", rows)
    except sqlite3.Error as error:  # sqlite has no error of its own for a full disk
        raise PlanError(
            f"The plan cannot be written to {fresh} ({error}). Free some space and run again."
        ) from None
    files.replace(fresh, PLAN)
