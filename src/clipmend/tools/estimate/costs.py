"""Seconds of jobs: measured, or those of jobs like them."""

import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["measured", "extrapolated", "assumed"]

NOT_MADE = ("taken from the store", "is made already")
START = 5.0
"""Seconds that a job's process takes to import: medians of 4.3 to 6.0 s a stage, measured by
``scripts/cost.py`` on two cores (docs/results/cost.md)."""


@dataclass(frozen=True)
class Figure:
    """A number and what it rests on."""

    value: float
    source: Source


@dataclass(frozen=True)
class Cost:
    """The seconds of the whole grid, most of them not measured.

    Attributes:
        measured: of the jobs whose time is known.
        total: with the median of like jobs for each of the others.
        unlike: jobs of which no like one was timed; their time is missing in ``total``.
    """

    measured: float
    total: float
    timed: int
    jobs: int
    unlike: int


def wall_time(path: Path, log: Path) -> float | None:
    """Return the seconds of a job that made its cell, from Snakemake's file, column ``s``.

    None where there is no such file, or its log says that the cell was not made.
    """
    if not path.is_file():
        return None
    if log.is_file() and any(said in log.read_text(errors="replace") for said in NOT_MADE):
        return None
    with path.open(encoding="utf-8") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"), None)
    return None if row is None else float(row["s"])


def wall_times(folders: Sequence[Path]) -> dict[str, float]:
    """Return the seconds of each job that made its cell, by cell, from Snakemake's files.

    Reads `<folder>/<cell>.tsv`; the log beside the folder tells what was not made.
    """
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.tsv")):
            cell = path.relative_to(folder).with_suffix("").as_posix()
            taken = wall_time(path, folder.parent / f"{cell}.log")
            if taken is not None:
                found[cell] = taken
    return found


def extrapolated(cells: Iterable[str], seconds: Mapping[str, float]) -> Cost:
    """Return the cost of the grid: a job without a time gets the median of jobs like it.

    Like is the same method, or the same stage where a stage has none; under the same objective if
    one was timed there.
    """
    names = list(cells)
    known = figures(names, {name: seconds[name] for name in names if name in seconds})
    timed = [figure.value for figure in known.values() if figure.source == "measured"]
    total = sum(figure.value for figure in known.values())
    return Cost(sum(timed), total, len(timed), len(names), len(names) - len(known))


def figures(
    cells: Iterable[str],
    seconds: Mapping[str, float],
    work: Mapping[str, float] | None = None,
    timed_work: Mapping[str, float] | None = None,
) -> dict[str, Figure]:
    """Return the seconds of every cell that was timed, or that is like one that was.

    Args:
        seconds: of the cells that were timed as they are wanted now, and of others.
        work: what each cell has to do, in any unit; where it and that of a like cell are known,
            the like cell's time beyond its start is scaled by them.
        timed_work: what the timed cells did, where that differs from ``work``; these count as
            like themselves, not as measured.
    """
    work, timed_work = work or {}, timed_work or {}
    like: dict[tuple[str, ...], list[tuple[float, float | None]]] = {}
    for name, taken in seconds.items():
        for kind in kinds(name):
            like.setdefault(kind, []).append((taken, timed_work.get(name, work.get(name))))
    found = {}
    for name in cells:
        if name in seconds and name not in timed_work:
            found[name] = Figure(seconds[name], "measured")
            continue
        near = next((like[kind] for kind in kinds(name) if kind in like), None)
        if near is not None:
            scaled = [_scaled(taken, done, work.get(name)) for taken, done in near]
            found[name] = Figure(statistics.median(scaled), "extrapolated")
    return found


def _scaled(taken: float, done: float | None, wanted: float | None) -> float:
    if not done or wanted is None or done == wanted:
        return taken
    start = min(taken, START)
    return start + (taken - start) * wanted / done


def kinds(cell: str) -> Iterator[tuple[str, ...]]:
    """Yield what makes a job like another, the most alike first."""
    stage, *parts = cell.split("/")
    if stage in ("download", "poison", "report"):
        yield (stage, *parts[: {"download": 1, "poison": 2}.get(stage, 0)])
    elif stage == "pretrain":
        yield (stage, parts[0], parts[2])
    else:
        method = () if stage == "evaluate" else (parts[4],)
        yield (stage, parts[0], parts[2], *method)
        yield (stage, parts[0], *method)
