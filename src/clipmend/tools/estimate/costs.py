"""Measured seconds and bytes of jobs, and how they carry over to other jobs.

Nothing here models a method: a job takes the time that like jobs took, times the ratio of their
epochs x pairs.
"""

import csv
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path

from clipmend.engine.cell import Cell
from clipmend.engine.runner import CPU_SECONDS, RESTORED, UP_TO_DATE
from clipmend.methods.table import base

PACKAGE_DATA = ("reference_times.csv",)

START = 5.0
"""Seconds that a process takes to import: medians of 4.3 to 6.0 s a stage, on two cores."""

# The log of a job that restored its cell or left it alone: its time says nothing about the work.
_NOT_MADE = (RESTORED, UP_TO_DATE)
_USED = re.compile(rf"{CPU_SECONDS} (\d+\.\d)$", re.MULTILINE)
_LIMIT = 1_000_000  # bytes of a log or a benchmark file
_SPLITS = {"baselines": "trusted", "evaluate": "test"}  # the pairs that a stage works on
_MODEL_STAGES = ("pretrain", "detect", "unlearn", "baselines", "evaluate")


@dataclass(frozen=True)
class Work:
    """The facts about a job that its cost is estimated from.

    Attributes:
        method: its name in ``params.yaml``, or the source of a corpus; "" for a stage without.
        model: as in ``pretrain.model``; "" for a stage that uses no model.
        image_size: side of the images of the corpus, in pixels; 0 if the settings do not say.
        epochs: of the method; 1 if it has no such setting.
        pairs: that an epoch reads; for ``report`` the jobs that it reads; 0 if unknown.
    """

    stage: str
    method: str
    objective: str
    model: str
    image_size: int
    epochs: float
    pairs: int

    def kinds(self) -> Iterator[tuple[str | int, ...]]:
        """Yield the groups of like jobs that the job belongs to, the closest likeness first."""
        for method in dict.fromkeys((self.method, base(self.method))):
            for objective in dict.fromkeys((self.objective, "")):
                yield (self.stage, method, objective, self.model, self.image_size)


@dataclass(frozen=True)
class Timing(Work):
    """A measured job.

    Attributes:
        seconds: CPU time of its process, or wall time where a GPU did the work; 0 if only its bytes
            are known.
        bytes: of the files that it wrote; 0 if they were not counted.
        machine: a name for ``--machine``.
        origin: the run, the date and the hardware.
    """

    seconds: float
    bytes: int = 0
    machine: str = ""
    origin: str = ""


class Measurements:
    """Measured jobs, looked up by likeness."""

    def __init__(self, timings: Iterable[Timing]) -> None:
        self._groups: dict[tuple[str | int, ...], list[Timing]] = defaultdict(list)
        for timing in timings:
            for kind in timing.kinds():
                self._groups[kind].append(timing)

    def seconds(self, work: Work) -> float | None:
        """Return the seconds of a job: the median of like jobs, each scaled by epochs x pairs.

        None if no like job was measured, or if the pairs of the job are unknown.
        """
        values = []
        for like in self._like(work):
            # A job without an epoch says nothing about the time of one.
            is_scalable = like.epochs or like.epochs == work.epochs
            if like.seconds and like.pairs and work.pairs and is_scalable:
                epochs = 1.0 if like.epochs == work.epochs else work.epochs / like.epochs
                # Importing torch takes the same time however long the training is.
                start = min(like.seconds, START)
                ratio = epochs * work.pairs / like.pairs
                values.append(start + (like.seconds - start) * ratio)
        return statistics.median(values) if values else None

    def bytes(self, work: Work) -> int | None:
        """Return the bytes that a job writes: the median of like jobs.

        Scaled by pairs if the stage has no model. None if no like job was measured.
        """
        # A model has the same size whatever it was trained on.
        values = [
            like.bytes if work.model else like.bytes * work.pairs / like.pairs
            for like in self._like(work)
            if like.bytes and (work.model or (like.pairs and work.pairs))
        ]
        return round(statistics.median(values)) if values else None

    def _like(self, work: Work) -> Sequence[Timing]:
        groups = (self._groups[kind] for kind in work.kinds() if kind in self._groups)
        return next(groups, ())


def work_of(cell: Cell, model: str, corpus: Mapping[str, int]) -> Work:
    """Return the facts about a job.

    Args:
        model: as in ``pretrain.model``.
        corpus: split -> its pairs, as far as known, and ``image_size``.
    """
    place, stage = cell.place, cell.stage
    named = {"download": cell.method, "evaluate": ""}  # all repairs are evaluated alike
    pairs = {
        "download": sum(size for name, size in corpus.items() if name != "image_size"),
        "report": len(cell.inputs),
    }
    has_model = stage in _MODEL_STAGES
    return Work(
        stage=stage,
        method=named.get(stage, place.method or place.objective or place.attack),
        objective=place.objective if has_model else "",
        model=model if has_model else "",
        image_size=corpus.get("image_size", 0),
        epochs=float(cell.settings.get("epochs", 1)),
        pairs=pairs.get(stage, corpus.get(_SPLITS.get(stage, "train"), 0)),
    )


def job_seconds(path: Path, log: Path) -> float | None:
    """Return the seconds of a job.

    They are the CPU seconds in its log; without these, as on a GPU, the wall time, column ``s`` of
    Snakemake's benchmark file. Snakemake's own CPU seconds lack up to the last 30.

    None if the file does not exist or holds no number, or if the log says that the job did not
    make its cell. A stranger's files may be links, or of any size: such are not read.
    """
    if not _is_small_file(path):
        return None
    said = log.read_text(encoding="utf-8", errors="replace") if _is_small_file(log) else ""
    if any(text in said for text in _NOT_MADE):  # a log that says this has one line
        return None
    used = _USED.findall(said)
    with path.open(encoding="utf-8", errors="replace") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"), {})
    try:
        seconds = float(used[-1] if used else row.get("s") or "nan")
    except ValueError:  # Snakemake writes NA for a job too short to be measured
        return None
    return seconds if math.isfinite(seconds) else None


def _is_small_file(path: Path) -> bool:
    return not path.is_symlink() and path.is_file() and path.stat().st_size <= _LIMIT


def job_times(folder: Path) -> dict[str, float]:
    """Return the seconds of each job that made its cell, by cell.

    Reads ``<folder>/<cell>.tsv`` and the log beside the folder; behind a link, nothing.
    """
    if folder.is_symlink() or folder.parent.is_symlink():
        return {}
    cells = {path.relative_to(folder).with_suffix(""): path for path in folder.rglob("*.tsv")}
    times = {c: job_seconds(cells[c], folder.parent / f"{c}.log") for c in sorted(cells)}
    return {cell.as_posix(): seconds for cell, seconds in times.items() if seconds is not None}


def reference() -> list[Timing]:
    """Return the measured jobs that ship with the package."""
    text = files("clipmend.tools.estimate").joinpath(*PACKAGE_DATA).read_text(encoding="utf-8")
    numbers = {"image_size": int, "pairs": int, "bytes": int, "epochs": float, "seconds": float}
    return [
        Timing(**{name: numbers.get(name, str)(value) for name, value in row.items()})
        for row in csv.DictReader(text.splitlines())
    ]


def write_reference(path: Path, timings: Iterable[Timing], machine: str, origin: str) -> int:
    """Replace the rows of a machine by the medians of a finished run; return how many it gave.

    A kind of job that the run lacks keeps its row.

    Args:
        origin: the run, the date and the hardware, for the last column.
    """
    groups: dict[tuple[str | int, ...], list[Timing]] = defaultdict(list)
    for timing in timings:
        groups[next(timing.kinds())].append(timing)
    rows = {(row.machine, *next(row.kinds())): row for row in reference()}
    # By machine as well: a kind can be measured on several.
    for kind, like in groups.items():
        # Bytes and pairs come from the median job, so that a row describes one real job.
        middle = sorted(like, key=lambda timing: timing.seconds)[len(like) // 2]
        facts = asdict(middle) | {"machine": machine, "origin": origin}
        facts["seconds"] = round(statistics.median(timing.seconds for timing in like), 1)
        rows[machine, *kind] = Timing(**facts)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [f.name for f in fields(Timing)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(rows[key]) for key in sorted(rows, key=str))
    return len(groups)
