"""A job makes one cell: checked against the plan, made aside, put in place, its card last."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from clipmend.engine import (
    cards,
    files,
    fingerprint,
    gpus,
    grid,
    limits,
    locks,
    plan,
    processes,
    progress,
    store,
)
from clipmend.engine.cell import RESULTS, Cell, Place
from clipmend.engine.garbage import permanent
from clipmend.engine.index import Index
from clipmend.engine.job import Input, Job
from clipmend.engine.plan import Entry
from clipmend.errors import ArtifactError, ClipmendError, PlanError, line_of
from clipmend.methods import table
from clipmend.model import arithmetic

WORK = Path(".clipmend/work")
UP_TO_DATE = "is up to date"
RESTORED = "restored from the store"
"""What the log of a job says if the job did not make its cell; an estimate reads it."""
CPU_SECONDS = "CPU seconds:"
"""What the log of a job on the CPU ends with; an estimate reads it."""

GRACE = 15.0  # seconds that a following process leaves the leading one to report an error
WITHOUT_GPU = ("download", "report")  # stages that do not use one
BEFORE_TRAINING = ("poison", "pretrain")  # stages before which the whole run is checked
CREATED = ("poison", "trigger", "model")  # roles of inputs whose methods a job creates again
MULTIPROCESS = ("pretrain",)  # stages whose cells several processes can make together
CORES = "CLIPMEND_CORES"  # how many cores the scheduler gave this job; decoders use them


def run(name: str, *, cores: int | None = None) -> None:
    """Make one cell of the plan, or restore it if the store has it.

    Of several processes that torchrun started, the leading one does this and the others train with
    it.

    Args:
        cores: how many processes may decode images; None: one per core of the machine.

    Raises:
        ClipmendError: the cell is not in the plan, or the stage cannot make it.
    """
    try:
        entry = plan.entry(name)  # refuses an unknown cell before anything is written
    except ClipmendError:
        if processes.rank() > 0:
            time.sleep(GRACE)  # the leading process reports it, and ends this one
        raise
    _prepare(entry)
    if cores is not None:
        os.environ[CORES] = str(cores)
    if processes.rank() > 0:
        _follow(name, entry.arithmetic)
        return
    if processes.count() > 1 and Place.parse(name).stage not in MULTIPROCESS:
        raise ClipmendError(
            f"{name} cannot run with {processes.count()} processes; only "
            f"{', '.join(MULTIPROCESS)} supports several."
        )
    with locks.cell(name) as lock:
        # Read again under the lock: the job that held it before may have had another plan.
        entry, index = _reread(name, entry.arithmetic), Index()
        cell = entry.cell
        present = _inputs(entry, index)
        if plan.fault(cell, cards.read(RESULTS / name), present, index) is None:
            processes.send(go=False)
            _say(f"{name}: {UP_TO_DATE}")
        elif store.restore(cell.key, RESULTS / name, plan.as_read(cell, present), index):
            processes.send(go=False)
            _say(f"{name}: {RESTORED}")
        else:
            _make(entry, present, index, lock)


def remake(name: str, work: Path) -> None:
    """Make a cell of the plan again below the empty folder ``work``; ``results/`` stays as it is.

    Raises:
        ClipmendError: the cell is not in the plan, or its inputs are not those of the plan.
    """
    entry, index = plan.entry(name), Index()
    _prepare(entry)
    _inputs(entry, index)
    parts, job = _load(entry, index), job_of(entry, work)
    job.out.mkdir()
    job.work.mkdir()
    arithmetic.start(entry.arithmetic, job.device)
    _run(parts, job)


def _prepare(entry: Entry) -> None:
    """Set the environment of numerical libraries, before anything imports one."""
    arithmetic.prepare(entry.arithmetic)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else sums on a GPU vary


def _reread(name: str, prepared: arithmetic.Arithmetic) -> Entry:
    """Return the cell as the plan has it now; the libraries of this process are limited already.

    Raises:
        PlanError: the plan has another arithmetic now.
    """
    entry = plan.entry(name)
    if entry.arithmetic != prepared:
        raise PlanError(f"{name}: `arithmetic` was changed meanwhile; run `snakemake` again.")
    return entry


def _inputs(entry: Entry, index: Index) -> dict[str, Any]:
    """Return the cards of a cell's inputs, having checked that they are what the plan means."""
    cell, present = entry.cell, {}
    for name, planned in entry.inputs.items():
        card = cards.read(RESULTS / name)
        if card is None or card["key"] != planned.key:
            raise ArtifactError(
                f"{cell.name} reads {name}, which is not made as the plan wants it; "
                "run `snakemake` for it first."
            )
        damage = cards.damage(RESULTS / name, card, index)
        if damage is not None:
            raise ArtifactError(
                f"{cell.name} reads {name}, whose {damage}; run `snakemake` again to repair it."
            )
        present[name] = card
    return present


def _make(entry: Entry, present: Mapping[str, Any], index: Index, lock: IO[str]) -> None:
    """Run the stage in the cell's work folder, then put what it wrote in place."""
    cell, parts = entry.cell, _load(entry, index)
    if cell.stage in BEFORE_TRAINING:
        limits.check_corpus(plan.needs(), cell.place.corpus, RESULTS / cell.inputs["corpus"])
    job = _begin(entry)
    arithmetic.start(entry.arithmetic, job.device)
    processes.send(go=True)
    try:
        with progress.recorded(job.work, _record(job)):
            _run(parts, job)
    except Exception as error:
        locks.check(cell.name, lock)  # a deleted folder is the reason, and no bug
        if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
            files.remove(job.work)
            raise ArtifactError(
                f"{cell.name}: {line_of(error)} The progress of this job had files of another "
                "form and was deleted; run again, and the job begins anew."
            ) from error
        raise
    locks.check(cell.name, lock)
    card = {
        **cell.ingredients(),
        "key": cell.key,
        "inputs": plan.as_read(cell, present),
        "outputs": cards.outputs(job.out, index),
        "environment": environment(job.device, entry.arithmetic),
    }
    cards.write(job.out, card)  # last: a folder with a card is complete
    store.put(job.out, card, index)
    # The parameters may have changed while this job ran; then the cell waits in the store.
    if plan.key_of(cell.name) == cell.key:
        store.place(job.out, RESULTS / cell.name)
    else:
        _say(f"{cell.name}: no longer in the plan; kept in the store")
    files.remove(job.out.parent)
    if job.device == "cpu":
        _say(f"{cell.name}: {CPU_SECONDS} {_cpu_seconds():.1f}")


def _begin(entry: Entry) -> Job:
    """Return the job of a cell with its folders: an empty output, and the progress before a kill.

    The work folder may be in any state. What the killed job did not write is deleted.
    """
    work = WORK / entry.cell.key
    job = job_of(entry, work)
    files.make_folder(job.work)
    files.remove_strangers(job.work)
    progress.remove_foreign(job.work, _record(job))
    files.remove(job.out)  # a killed job may have left half an output
    job.out.mkdir()
    return job


def _record(job: Job) -> Path:
    return job.work.with_name(progress.RECORD)


def _run(parts: Sequence[ModuleType], job: Job) -> None:
    for part in parts:
        part.run(job)


def _load(entry: Entry, index: Index) -> tuple[ModuleType, ...]:
    """Claim a GPU if the job needs one, and return what makes the cell; refuse what was edited."""
    cell = entry.cell
    if entry.device != "cpu" and cell.stage not in WITHOUT_GPU and processes.count() == 1:
        gpus.claim()
    parts = _import(entry)
    for path, digest in cell.files.items():
        if index.tree(grid.outside(path)) != digest:
            raise PlanError(
                f"{cell.name}: {path} was changed after the plan was made; run `snakemake` again."
            )
    return parts


def _follow(name: str, prepared: arithmetic.Arithmetic) -> None:
    """Train with the leading process, which writes the results and prints for all."""
    logging.getLogger("clipmend").setLevel(logging.WARNING)
    if not processes.receive():
        return
    entry = _reread(name, prepared)
    try:
        parts, job = _import(entry), job_of(entry, WORK / entry.cell.key)
        arithmetic.start(entry.arithmetic, job.device)
        _run(parts, job)
    except ClipmendError:
        time.sleep(GRACE)  # an error that all processes meet has ended this one by then
        raise


def job_of(entry: Entry, work: Path) -> Job:
    """Return what the stage of a cell is given; it writes into the folder ``work``."""
    cell = entry.cell
    return Job(
        cell=cell.name,
        stage=cell.stage,
        method=cell.method,
        seed=cell.seed,
        settings=cell.settings,
        shared=cell.shared,
        device=device_of(entry.device),
        inputs={role: input_of(entry.inputs[name]) for role, name in cell.inputs.items()},
        out=work / "out",
        work=work / "progress",
    )


@permanent()
def _import(entry: Entry) -> tuple[ModuleType, ...]:
    """Return the modules that make the cell, having loaded all code that the key stands for.

    Everything is imported before the sources are hashed again. An edit that is made while a run
    goes on is then either refused here, or comes too late to be used.
    """
    cell = entry.cell
    others = [entry.inputs[name] for role, name in cell.inputs.items() if role in CREATED]
    created = {table.reference(other.stage, other.method)[0]: other for other in others}
    try:
        for module in (*cell.code, *created):
            import_module(module)
        parts = tuple(map(import_module, table.modules(cell.stage, cell.method, cell.shared)))
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("clipmend."):
            raise
        why = "does not exist; restore the file"
        if error.name in cell.code:
            why = "was removed after the plan was made; run `snakemake` again"
        raise PlanError(f"{cell.name}: {error.name} {why}.") from None
    except SyntaxError as error:
        raise PlanError(f"{cell.name}: {error.filename} does not parse: {error}.") from None
    fingerprint.forget()
    _refuse_edited(cell.name, cell, cell.code)
    for module, other in created.items():
        _refuse_edited(cell.name, other, (*fingerprint.digests(module), fingerprint.TABLE))
    return parts


def _refuse_edited(name: str, cell: Cell, modules: Iterable[str]) -> None:
    """Refuse modules whose code is not what the key of a cell was made of."""
    for module in modules:
        if module == fingerprint.TABLE:
            present = fingerprint.line(*table.reference(cell.stage, cell.method))
        else:
            present = fingerprint.digests(module)[module]
        if present != cell.code.get(module):
            raise PlanError(
                f"{name}: {module} was edited after the plan was made; run `snakemake` again."
            )


def input_of(cell: Cell) -> Input:
    """Return a finished cell of the plan as the jobs that read it see it."""
    return Input(
        cell=cell.name,
        folder=RESULTS / cell.name,
        stage=cell.stage,
        method=cell.method,
        seed=cell.seed,
        settings=cell.settings,
        shared=cell.shared,
    )


def inputs_below(results: Path) -> dict[str, Input]:
    """Return every cell with a readable card below a folder, by name, as a report reads it."""
    return {
        name: Input.of_card(name, results / name, card)
        for name, card in cards.below(results)
        if card is not None
    }


def device_of(setting: str) -> str:
    """Return ``cpu`` or ``cuda``; torch is asked only if the machine has an NVIDIA driver."""
    if setting == "cpu" or (setting == "auto" and not gpus.has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if setting == "cuda":
        raise ClipmendError("device is 'cuda', but torch finds no GPU; use 'auto' or 'cpu'.")
    return "cpu"


def environment(device: str, chosen: arithmetic.Arithmetic) -> dict[str, Any]:
    """Return the environment of a job in this process, as its card records it."""
    made = cards.environment(_device_name(device))
    return {**made, "arithmetic": arithmetic.describe(chosen)}


def _device_name(device: str) -> str:
    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    if device == "cpu":
        return f"{device}{several}"
    import torch

    return f"cuda {torch.cuda.get_device_name()}{several}"


def _cpu_seconds() -> float:
    """Return the seconds that this process and its children have used of any core."""
    return sum(os.times()[:4])  # the fifth is the time of day


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
