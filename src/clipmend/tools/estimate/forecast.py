"""An estimate: the jobs of a grid, their hours and their bytes, stage by stage."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from clipmend.data.pairs import SPLITS
from clipmend.engine import cards, gpus, grid, plan
from clipmend.engine.cell import RESULTS, Cell
from clipmend.engine.folders import TABLE, pair_files
from clipmend.engine.index import Glance
from clipmend.engine.params import Params
from clipmend.engine.printing import printable
from clipmend.engine.runner import WITHOUT_GPU
from clipmend.engine.store import STORE
from clipmend.errors import PairsError, UnknownNameError
from clipmend.methods.table import STAGES
from clipmend.tools.estimate.costs import (
    Measurements,
    Timing,
    Work,
    job_times,
    reference,
    work_of,
    write_reference,
)

BENCHMARKS = Path("logs/benchmark")
CC3M_BYTES = (90_000, 294_000)  # of an image: img2dataset's log, and the card of WeiChow/cc3m
ARCHIVE_BYTES = {"cifar10": 170_498_071, "cifar100": 169_001_437}
_WIDE = 1000


@dataclass(frozen=True)
class Job:
    """One job of the grid.

    Attributes:
        state: ``made``, ``stored`` (comes back from the store) or ``remaining``.
        basis: of the hours: ``measured``, ``like jobs``, ``reference`` or ``unknown``.
        seconds: of one process; 0 if unknown.
        bytes: of its files; 0 if unknown.
    """

    work: Work
    state: str
    basis: str
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Stage:
    """The jobs of a stage. An unknown job is left out of the totals.

    Attributes:
        unit: of the hours: ``core`` or ``GPU``.
        basis: what the hours come from -> number of jobs.
    """

    name: str
    unit: str
    remaining: int
    total: int
    hours_left: float
    hours_total: float
    bytes_left: int
    bytes_total: int
    basis: Mapping[str, int]


@dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    Attributes:
        unknown: stage -> the methods that no measured job resembles, or whose pairs are unknown.
        download: least and most bytes over the network, as published.
        missing: files of the user that the grid names and that do not exist.
    """

    model: str
    machine: str
    states: Mapping[str, int]
    stages: tuple[Stage, ...]
    unknown: Mapping[str, tuple[str, ...]]
    download: tuple[int, int]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """The grid, and the parts of it that this folder holds already.

    Attributes:
        present: cards of the cells that a run would not make.
        states: cell -> ``made``, ``stored`` or ``remaining``.
        corpora: cell of ``download`` -> pairs of each split, as far as known, and ``image_size``.
    """

    params: Params
    cells: Mapping[str, Cell]
    corpora: Mapping[str, Mapping[str, int]]
    present: Mapping[str, Mapping[str, Any]]
    states: Mapping[str, str]

    def work(self, name: str, card: Mapping[str, Any] | None = None) -> Work:
        """Return the facts about a job, by the settings on ``card`` if there is one."""
        cell = self.cells[name]
        corpus = self.corpora.get(cell.place.at("download").path, {})
        settings = cell.settings if card is None else card.get("settings", {})
        return work_of(replace(cell, settings=settings), self.params.pretrain.model, corpus)

    def timings(self, seconds: Mapping[str, float]) -> Iterator[Timing]:
        """Yield the jobs of the grid that were timed in this folder.

        Args:
            seconds: cell -> seconds of its job.
        """
        for name in seconds.keys() & self.cells.keys():
            card = cards.read(RESULTS / name)  # its settings may differ from the present ones
            size = 0 if card is None else _weight(card)
            yield Timing(**asdict(self.work(name, card)), seconds=seconds[name], bytes=size)

    def jobs(self, seconds: Mapping[str, float], shipped: Iterable[Timing]) -> Iterator[Job]:
        """Yield every job of the grid with its cost.

        Args:
            seconds: of the jobs that were timed in this folder.
            shipped: the reference, for jobs that resemble none of these.
        """
        here, elsewhere = Measurements(self.timings(seconds)), Measurements(shipped)
        for name, state in self.states.items():
            work = self.work(name)
            # The first that is known counts. A job timed under other settings is only a like job.
            figures = {
                "measured": seconds.get(name) if state == "made" else None,
                "like jobs": here.seconds(work),
                "reference": elsewhere.seconds(work),
            }
            basis = next((b for b, value in figures.items() if value is not None), "unknown")
            card = self.present.get(name)
            size = (here.bytes(work) or elsewhere.bytes(work)) if card is None else _weight(card)
            yield Job(work, state, basis, figures.get(basis) or 0.0, size or 0)


def survey(params: Params) -> Survey:
    """Look at the folder. Large files are not read, no lock is taken, nothing is written.

    A cell counts as made if its card has the right key and its files have the sizes on the card.
    """
    cells = grid.cells(params, Glance())
    present: dict[str, Mapping[str, Any]] = {}
    states = dict.fromkeys(cells, "remaining")
    for name, cell in cells.items():
        # ``results/`` last: a cell there is usually a link to the same files in the store.
        for folder, state in ((STORE / cell.key, "stored"), (RESULTS / name, "made")):
            card = cards.read(folder)
            if card is not None and _proves(card, cell, present, folder):
                present[name], states[name] = card, state
    corpora = {name: _corpus(cell) for name, cell in cells.items() if cell.stage == "download"}
    return Survey(params, cells, corpora, present, states)


# The checks of `plan.fault` without reading bytes: an estimate must take seconds on any corpus.
def _proves(
    card: Mapping[str, Any], cell: Cell, present: Mapping[str, Mapping[str, Any]], folder: Path
) -> bool:
    if (
        card["key"] != cell.key
        or not present.keys() >= set(cell.inputs.values())
        or card["inputs"] != plan.as_read(cell, present)
    ):
        return False
    sizes = {folder / name: written["size"] for name, written in card["outputs"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def estimate(params: Params, machine: str | None = None) -> Estimate:
    """Return the cost of the grid.

    Args:
        machine: whose reference times to use; None: this machine, and jobs timed here come first.

    Raises:
        UnknownNameError: no reference times of such a machine ship with the package.
    """
    shipped = reference()
    names = {timing.machine for timing in shipped}
    if machine is not None and machine not in names:
        raise UnknownNameError("machine", machine, names)
    # Asking torch would import it; the driver's presence is enough here.
    on_gpu = params.device == "cuda" or (params.device == "auto" and gpus.has_driver())
    chosen = machine or ("h200" if on_gpu else "cpu")
    # Stages without a use for a GPU run on the cores beside it, whatever the machine.
    rows = [t for t in shipped if t.machine == chosen or t.stage in WITHOUT_GPU]
    folder = survey(params)
    jobs = list(folder.jobs({} if machine else job_times(BENCHMARKS), rows))
    files = dict.fromkeys(name for cell in folder.cells.values() for name in cell.files)
    left = [job.work for job in jobs if job.state == "remaining" and job.work.stage == "download"]
    fetched = sum(work.pairs for work in left if work.method == "cc3m")
    archives = sum(ARCHIVE_BYTES.get(work.method, 0) for work in left)
    return Estimate(
        model=params.pretrain.model,
        machine=chosen,
        states=dict(Counter(job.state for job in jobs)),
        stages=tuple(_stage(name, jobs, is_gpu=chosen != "cpu") for name in STAGES),
        unknown={
            stage: tuple(dict.fromkeys(j.work.method for j in group))
            for stage, group in groupby(
                (job for job in jobs if job.basis == "unknown"), key=attrgetter("work.stage")
            )
        },
        download=(fetched * CC3M_BYTES[0] + archives, fetched * CC3M_BYTES[1] + archives),
        missing=tuple(name for name in files if not grid.outside(name).exists()),
    )


def _corpus(cell: Cell) -> dict[str, int]:
    """Return the pairs of each split, as far as files or settings tell, and the image size."""
    settings = cell.settings
    made = {name: RESULTS / cell.name / f"{name}.parquet" for name in SPLITS}
    sizes = {
        name: _rows(path) if cards.is_own(path.parent, path.name) else None
        for name, path in made.items()
    }
    if None in sizes.values():
        pool = _rows(settings.get("path"))
        files = {name: _rows(settings.get(f"{name}_path")) for name in SPLITS}
        sizes = {name: files[name] or settings.get(name) for name in SPLITS}
        if files["train"] or pool:  # splits without a file are carved out of the training pairs
            carved = [sizes[name] or 0 for name in SPLITS[1:] if files[name] is None]
            left = (files["train"] or pool or 0) - sum(carved)
            sizes["train"] = max(0, min(left, settings.get("train") or left))
    counts = {name: int(size) for name, size in sizes.items() if size is not None}
    return counts | {"image_size": int(settings.get("image_size") or 0)}


def _rows(path: str | Path | None) -> int | None:
    """Return the rows of a parquet file, or of all in a folder; None if there are none to read."""
    if path is None:
        return None
    try:
        paths = pair_files(Path(path))[TABLE] if Path(path).is_dir() else [Path(path)]
        tables = [file for file in paths if file.suffix.lower() == TABLE]
        return sum(pq.read_metadata(file).num_rows for file in tables) if tables else None
    except (
        pa.ArrowException,
        OSError,
        PairsError,
    ):  # of the user: the job that reads it explains the fault
        return None


def _weight(card: Mapping[str, Any]) -> int:
    return sum(written["size"] for written in card["outputs"].values())


def record(params: Params, path: Path, machine: str) -> str:
    """Write the reference times with those of the run in this folder, and say how many it gave."""
    timed = survey(params).timings(job_times(BENCHMARKS))
    today = datetime.now(UTC).date().isoformat()
    processor = cards.environment(params.device)["cpu"]
    count = write_reference(path, timed, machine, f"run of {today} on {processor}")
    return f"{count} kinds of jobs of this run are in {path}."


def _stage(name: str, jobs: Iterable[Job], *, is_gpu: bool) -> Stage:
    own = [job for job in jobs if job.work.stage == name]
    left = [job for job in own if job.state == "remaining"]
    return Stage(
        name=name,
        unit="GPU" if is_gpu and name not in WITHOUT_GPU else "core",
        remaining=len(left),
        total=len(own),
        hours_left=sum(job.seconds for job in left) / 3600,
        hours_total=sum(job.seconds for job in own) / 3600,
        bytes_left=sum(job.bytes for job in left),
        bytes_total=sum(job.bytes for job in own),
        basis=dict(Counter(job.basis for job in own)),
    )


def show(cost: Estimate, console: Console) -> None:
    """Print the estimate."""
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    total = sum(cost.states.values())
    jobs = (
        f"{cost.states.get('remaining', 0):,} of {total:,} jobs remain; "
        f"{cost.states.get('made', 0):,} are made and {cost.states.get('stored', 0):,} come back "
        f"from the store. Model {cost.model}, machine {cost.machine}."
    )
    console.print(Text(printable(jobs)))
    console.print(_table(cost))
    if cost.unknown:
        listed = "; ".join(
            f"{stage} {', '.join(methods)}".strip() for stage, methods in cost.unknown.items()
        )
        console.print(Text(printable(f"Unknown, and left out of the totals: {listed}.")))
    if cost.download[1]:
        least, most = map(decimal, cost.download)
        console.print(f"Download: {least} to {most}, by published sizes of archives and images.")
    if cost.missing:
        missing = f"These input files do not exist yet: {', '.join(cost.missing)}."
        console.print(Text(printable(missing)))


def _table(cost: Estimate) -> Table:
    right = "remaining", "total", "hours left", "hours total"
    columns = [Column(name, justify="right") for name in (*right, "disk left", "disk total")]
    table = Table("stage", *columns[:4], "basis", *columns[4:])
    for stage in cost.stages:
        basis = ", ".join(f"{count:,} {name}" for name, count in stage.basis.items())
        table.add_row(stage.name, *_row([stage], basis))
    table.add_section()
    for unit in dict.fromkeys(stage.unit for stage in cost.stages):
        own = [stage for stage in cost.stages if stage.unit == unit]
        table.add_row(f"all, {unit}-hours", *_row(own, ""))
    return table


def _row(stages: list[Stage], basis: str) -> tuple[str, ...]:
    is_known = any(set(stage.basis) - {"unknown"} for stage in stages)
    hours = [
        f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
        for value in (sum(s.hours_left for s in stages), sum(s.hours_total for s in stages))
    ]
    return (
        f"{sum(stage.remaining for stage in stages):,}",
        f"{sum(stage.total for stage in stages):,}",
        *(hours if is_known else ["unknown", "unknown"]),
        basis,
        decimal(sum(stage.bytes_left for stage in stages)),
        decimal(sum(stage.bytes_total for stage in stages)),
    )
