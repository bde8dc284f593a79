"""Reports that no job makes: of several finished reports together, or of an unfinished run.

``clipmend report --from A B --out DIR`` joins reports of parts of one grid and lists the gaps.
``clipmend report --partial DIR`` reports the cells that are made so far.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from clipmend.engine import cards, files, grid, params, plan
from clipmend.engine.cell import INGREDIENTS, RESULTS, Place
from clipmend.engine.index import Index
from clipmend.engine.runner import input_of, job_of
from clipmend.errors import ArtifactError
from clipmend.report import contents
from clipmend.report.cells import PAIR, groups
from clipmend.report.figures import finding
from clipmend.report.files import CARDS, CELLS, JOINED, read_cards
from clipmend.report.page import Page
from clipmend.report.results import Results
from clipmend.report.table import Section, Table
from clipmend.stages import report as stage
from clipmend.tools.audit.causes import differences

GAPS = "gaps.csv"
LIMIT = 200_000_000  # bytes of a table, or of all cards; the largest grid has 20 million
NAMES = (*PAIR, "method")
_MADE_OF = ("code", "settings", "shared", "files")
_UNJOINED = ("findings.json", "code.json")  # they need files of cells, which a report does not have


def partial_report(folder: Path) -> str:
    """Write the report of every proven cell of the latest plan, and return how many there are.

    A cell whose files are damaged, or differ from what the plan asks for, is left out. So is one
    with files that its card does not name: they may be links to any place.

    Raises:
        ArtifactError: the folder exists already.
        PlanError: no plan was made yet.
    """
    planned = plan.load()
    report = planned.cells["report"]
    unproven = plan.faults(planned.cells, Index()).keys() | {report.name}
    inputs = {
        name: input_of(cell)
        for name, cell in planned.cells.items()
        if name not in unproven and cards.has_no_strays(RESULTS / name)
    }
    with _new(folder), TemporaryDirectory() as work:
        job = job_of(plan.Entry(planned.device, report, planned.cells), Path(work))
        stage.run(replace(job, inputs=inputs, out=folder, work=Path(work)))
    return f"{len(inputs):,} of {len(planned.cells) - 1:,} cells are made."


def join_reports(folders: Sequence[Path], out: Path, preset: Path) -> str:
    """Write one report from several, and return how many cells of the grid no report has.

    Figures and findings that need files of cells are left out: a report folder has none.

    Args:
        folders: report folders, each of a part of the grid.
        out: a new folder.
        preset: the parameters that span the whole grid.

    Raises:
        ArtifactError: the folder exists already, a report is incomplete or damaged, or two reports
            do not belong together: other code, other settings, or other bytes for one cell.
    """
    with _new(out):
        try:
            return _write_joined(folders, out, preset)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A table that somebody edited may hold anything.
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ArtifactError(
                f"A table of these reports cannot be read ({text[:300]})."
            ) from error


def _write_joined(folders: Sequence[Path], out: Path, preset: Path) -> str:
    joined, results = joined_cards(folders), Results.of_reports(folders)
    cells = grid.cells(params.load(preset), Index())
    places = [cell.place for cell in cells.values() if cell.stage == "evaluate"]
    missing = gaps(places, results.cells)
    missing.to_csv(out / GAPS, index=False, lineterminator="\n")
    lines = "".join(f"{cards.canonical(joined[cell])}\n" for cell in sorted(joined))
    (out / CARDS).write_text(lines, encoding="utf-8")
    made = (card.get("environment", {}) for card in joined.values())
    machines = {
        f"{env.get('device', '?')}, {env.get('cpu', '?')}, "
        f"torch {env.get('packages', {}).get('torch', '?')}"
        for env in made
    }
    notes = [
        f"Joined from {', '.join(folder.name for folder in folders)}.",
        f"Made on: {'; '.join(sorted(machines))}.",
    ]
    section = gaps_section(places, missing, notes)
    sections = stage.write_tables(results, out, {"gaps": section})
    Page(
        sections=sections,
        findings=[],
        findings_caption=finding.CAPTION,
        figures=stage.plot_figures(results, out, only_with_data=True),
        files=[*(name for name in contents.FILES if name not in _UNJOINED), GAPS],
    ).write(out / "index.html")
    return f"{len(missing):,} of {len(places):,} evaluated cells of the grid are missing."


def joined_cards(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the cards of several reports by cell, having checked that they belong together.

    Raises:
        ArtifactError: as ``join_reports``.
    """
    joined: dict[str, tuple[Path, dict[str, Any]]] = {}
    made: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}
    for folder in folders:
        own = {name: card for name, card in _own_cards(folder).items() if name != "report"}
        for name, card in own.items():
            other, known = joined.setdefault(name, (folder, card))
            if (known["key"], known["outputs"]) != (card["key"], card["outputs"]):
                raise ArtifactError(f"{folder} cannot be joined with {other}: {name} differs.")
            # A corpus is named in full: two corpora of one source differ in their settings.
            method = Place.parse(name).corpus if card["stage"] == "download" else card["method"]
            key = card["stage"], method
            other, known = made.setdefault(key, (folder, card))
            for part in _MADE_OF:
                names = [name for name, _, _ in differences(known[part], card[part])]
                if names:
                    raise ArtifactError(
                        f"{folder} cannot be joined with {other}: their cells of "
                        f"{' '.join(key).strip()} differ in {part}: {', '.join(names)}."
                    )
        _refuse_rows(folder, own)
    return {name: card for name, (_, card) in joined.items()}


def _refuse_rows(folder: Path, own: Mapping[str, Any]) -> None:
    """Refuse a row that no card of a report proves, or whose cell has a name that none can have."""
    for name in (_place(row).path for row in pd.read_csv(folder / CELLS).to_dict("records")):
        if name not in own:
            raise ArtifactError(f"{folder} has no card for {name}, so nothing proves its row.")
        if not all(map(params.is_name, name.split("/"))):
            raise ArtifactError(f"{folder} has a row for {name!r}, which no run can name so.")


def _own_cards(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the cards of a report, which may be a stranger's.

    Raises:
        ArtifactError: a file is a link or very large, or a line of the cards does not parse.
    """
    for name in (*JOINED, CARDS, f"{CARDS}.gz"):
        path = folder / name
        if not cards.is_own(folder, name) or (path.is_file() and _size(path) > LIMIT):
            raise ArtifactError(
                f"{path} cannot be joined: it is a link or behind one, or larger than "
                f"{LIMIT:,} bytes."
            )
    try:
        own = read_cards(folder)
        has_all = all({*INGREDIENTS, "outputs"} <= card.keys() for card in own.values())
        if not (has_all and all(cards.parse(cards.canonical(card)) for card in own.values())):
            raise ValueError
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ArtifactError(
            f"{folder / CARDS} holds a line that does not parse as a card."
        ) from None
    return own


def _size(path: Path) -> int:
    """Return the size of a file; of a compressed one, what it holds, counted up to the limit."""
    if path.suffix != ".gz":
        return path.stat().st_size
    size = 0
    try:
        with gzip.open(path) as file:
            while size <= LIMIT and (part := file.read(1 << 20)):
                size += len(part)
    except (EOFError, OSError, zlib.error):
        raise ArtifactError(f"{path} cannot be unpacked.") from None
    return size


def gaps(places: Sequence[Place], cells: pd.DataFrame) -> pd.DataFrame:
    """Return ``gaps.csv``: the evaluated cells of the grid that no report has."""
    present = {_place(row) for row in cells.to_dict("records")}
    rows = [[getattr(place, name) for name in NAMES] for place in places if place not in present]
    return pd.DataFrame(rows, columns=list(NAMES))


def gaps_section(places: Sequence[Place], missing: pd.DataFrame, notes: Sequence[str]) -> Section:
    """Return a table of the gaps: a row per corpus, objective and attack that lacks a cell."""
    by = ("corpus", "objective", "attack")
    asked = Counter(tuple(getattr(place, name) for name in by) for place in places)
    rows = []
    for key, part in groups(missing, *by):
        is_empty = len(part) == asked[key]
        methods = "all" if is_empty else ", ".join(dict.fromkeys(part["method"]))
        seeds = ", ".join(map(str, sorted(set(part["seed"]))))
        rows.append((*key, f"{len(part):,} of {asked[key]:,}", methods, seeds))
    header = (*by, "cells not measured", "methods", "seeds")
    tables = [Table.of("Not measured", header, rows)] if rows else []
    count = f"{len(missing):,} of {len(places):,} evaluated cells of the grid are not measured."
    return Section("Gaps", tables, [count, *notes])


def _place(row: Mapping[Any, Any]) -> Place:
    return Place("evaluate", **{name: row[name] for name in NAMES})


@contextmanager
def _new(folder: Path) -> Iterator[None]:
    """Create a folder to write into; an error removes it again."""
    if folder.exists():
        raise ArtifactError(f"{folder} exists already; name a new folder for the report.")
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        files.remove(folder)
        raise
