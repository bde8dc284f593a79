"""One job makes one cell: checked against the plan, made aside, put in place, its card last."""

import gc
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from clipmend.engine import cards, fingerprint, gpus, grid, locks, plan, processes, store
from clipmend.engine.cell import Cell, Place
from clipmend.engine.index import Index
from clipmend.engine.plan import Plan
from clipmend.engine.store import RESULTS
from clipmend.errors import ArtifactError, ClipmendError, PlanError

WORK = Path(".clipmend/work")
DEFERENCE = 15.0  # seconds
WITHOUT_GPU = ("download", "report")  # stages that have no use for one
SHARED = ("pretrain",)  # the stages whose cells several processes can make together

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Input:
    """A finished cell that a job reads."""

    cell: str
    folder: Path
    stage: str
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]

    @property
    def place(self) -> Place:
        """Where the cell stands in the grid."""
        return Place.parse(self.cell)


@dataclass(frozen=True)
class Job:
    """What a stage's ``run`` is given.

    Attributes:
        cell: ``<stage>/...``, the folder's name under ``results/``.
        method: as in ``params.yaml``; for ``download`` the source (``scenes``, ``pairs``); else "".
        settings: the method's own settings, as resolved.
        shared: the settings of the whole stage, such as ``target`` or ``model``.
        device: ``cpu`` or ``cuda``.
        inputs: the finished cells it reads, by role.
        out: an empty folder; the files written here become the cell.
        work: a folder that outlives a kill, for this key alone; resume from it.
    """

    cell: str
    stage: str
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]
    device: str
    inputs: Mapping[str, Input]
    out: Path
    work: Path

    @property
    def place(self) -> Place:
        """Where the cell stands in the grid."""
        return Place.parse(self.cell)


def run(name: str) -> None:
    """Make one cell of the plan, or bring it back if the store has it.

    Of several processes that torchrun started, the leading one does it and the others train along.

    Raises:
        ClipmendError: the cell is not in the plan, or the stage cannot make it.
    """
    for variable in THREADS:
        os.environ[variable] = "1"  # before anything imports torch; a cell's bytes depend on it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or a GPU adds as it likes
    if processes.rank() > 0:
        _follow(name)
        return
    cell = plan.load()[name]
    if processes.count() > 1 and cell.stage not in SHARED:
        raise ClipmendError(
            f"{name} cannot be made by {processes.count()} processes; "
            f"{', '.join(SHARED)} alone is trained by several."
        )
    with locks.cell(name):
        index = Index()
        planned = plan.load()  # again: the job we may have waited for had another plan
        present = _inputs(cell, planned, index)
        if plan.fault(cell, cards.read(RESULTS / name), present, index) is None:
            processes.tell(go=False)
            _say(f"{name}: is made already")
        elif store.restore(cell.key, RESULTS / name, plan.as_read(cell, present), index):
            processes.tell(go=False)
            _say(f"{name}: taken from the store")
        else:
            _make(cell, planned, present, index)


def _inputs(cell: Cell, planned: Plan, index: Index) -> dict[str, Any]:
    """Return the cards of a cell's inputs, having checked that they are what the plan means."""
    present = {}
    for name in cell.inputs.values():
        card = cards.read(RESULTS / name)
        if card is None or card["key"] != planned[name].key:
            raise ArtifactError(
                f"{cell.name} reads {name}, which is not made as the plan wants it; "
                "run `snakemake` for it first."
            )
        damage = cards.damage(RESULTS / name, card, index)
        if damage is not None:
            raise ArtifactError(
                f"{cell.name} reads {name}, whose {damage}; run `snakemake` again to mend it."
            )
        present[name] = card
    return present


def _make(cell: Cell, planned: Plan, present: Mapping[str, Any], index: Index) -> None:
    """Run the stage in the cell's work folder, then put what it wrote in place."""
    if planned.device != "cpu" and cell.stage not in WITHOUT_GPU and processes.count() == 1:
        gpus.claim()
    stage = _import(cell)
    _check_files(cell, index)
    work = WORK / cell.key
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (work / "progress").mkdir(exist_ok=True)
    job = job_of(cell, planned)
    processes.tell(go=True)
    stage.run(job)
    card = {
        **cell.ingredients(),
        "key": cell.key,
        "inputs": plan.as_read(cell, present),
        "outputs": cards.outputs(out, index),
        "environment": cards.environment(_device_name(job.device)),
    }
    cards.write(out, card)
    _deliver(cell, out, card, index)
    shutil.rmtree(work)


def _follow(name: str) -> None:
    """Train along with the leading process, which writes what comes of it and speaks for all."""
    logging.getLogger("clipmend").setLevel(logging.WARNING)
    if not processes.told():
        return
    planned = plan.load()
    try:
        _import(planned[name]).run(job_of(planned[name], planned))
    except ClipmendError:
        time.sleep(DEFERENCE)  # a mistake that is everybody's has ended this process by then
        raise


def job_of(cell: Cell, planned: Plan) -> Job:
    """Return what a cell's stage is given to make it."""
    work = WORK / cell.key
    return Job(
        cell=cell.name,
        stage=cell.stage,
        method=cell.method,
        seed=cell.seed,
        settings=cell.settings,
        shared=cell.shared,
        device=device_of(planned.device),
        inputs={role: input_of(planned[name]) for role, name in cell.inputs.items()},
        out=work / "out",
        work=work / "progress",
    )


def _deliver(cell: Cell, out: Path, card: Mapping[str, Any], index: Index) -> None:
    """Put a made cell into the store, and into ``results/`` if it is still wanted there."""
    store.put(out, card, index)
    now = plan.load().cells.get(cell.name)
    if now is None or now.key != cell.key:
        _say(f"{cell.name}: no longer in the plan; kept in the store")
    else:
        store.place(out, RESULTS / cell.name)


def _import(cell: Cell) -> ModuleType:
    """Return the stage's module, having loaded all code that the key stands for.

    Everything is imported before the sources are hashed again, so that an edit made while a run
    goes on is either refused here or comes too late to mix in.
    """
    gc.disable()  # a quarter of the time that it takes to load torch and open_clip
    for module in cell.code:
        import_module(module)
    stage = import_module(f"clipmend.stages.{cell.stage}")
    gc.enable()
    gc.freeze()  # what was loaded stays: no later collection looks at it again
    fingerprint.forget()
    for module, digest in cell.code.items():
        if fingerprint.digests(module)[module] != digest:
            raise PlanError(
                f"{cell.name}: {module} was edited after the plan was made; run `snakemake` again."
            )
    return stage


def _check_files(cell: Cell, index: Index) -> None:
    for path, digest in cell.files.items():
        if index.tree(grid.outside(path)) != digest:
            raise PlanError(
                f"{cell.name}: {path} was changed after the plan was made; run `snakemake` again."
            )


def input_of(cell: Cell) -> Input:
    """Return a finished cell of the plan as those that read it see it."""
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
    fields = ("stage", "method", "seed", "settings", "shared")
    return {
        name: Input(name, results / name, *(card[field] for field in fields))
        for name, card in cards.below(results)
        if card is not None
    }


def device_of(wanted: str) -> str:
    """Return ``cpu`` or ``cuda``; torch is asked only where the machine has an NVIDIA driver."""
    if wanted == "cpu" or (wanted == "auto" and not gpus.has_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ClipmendError("device is 'cuda', but torch finds no GPU; use 'auto' or 'cpu'.")
    return "cpu"


def _device_name(device: str) -> str:
    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    if device == "cpu":
        return f"{device}{several}"
    import torch

    return f"cuda {torch.cuda.get_device_name()}{several}"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
