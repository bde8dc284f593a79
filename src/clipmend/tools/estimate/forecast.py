"""Puts an estimate together: jobs, hours and bytes, stage by stage, each with what it rests on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clipmend.engine.runner import WITHOUT_GPU
from clipmend.methods.table import STAGES
from clipmend.tools.estimate.corpora import corpus_of
from clipmend.tools.estimate.costs import Figure, Source
from clipmend.tools.estimate.disk import sizes_of, working
from clipmend.tools.estimate.machines import Machine
from clipmend.tools.estimate.survey import Survey, store_bytes
from clipmend.tools.estimate.times import Times, basis_of

SOURCES: tuple[Source, ...] = ("measured", "extrapolated", "assumed")


@dataclass(frozen=True)
class Sum:
    """A number over jobs: of those that remain, and of all.

    Attributes:
        rest_on: how many of all jobs have a figure of each source.
        unknown: how many have none, and are in neither number.
    """

    remaining: float
    whole: float
    rest_on: Mapping[str, int]
    unknown: int


@dataclass(frozen=True)
class Stage:
    """What one stage takes.

    Attributes:
        unit: of ``hours``: ``core`` or ``GPU``.
        disk: bytes.
    """

    name: str
    remaining: int
    jobs: int
    unit: str
    hours: Sum
    disk: Sum


@dataclass(frozen=True)
class Estimate:
    """What a run costs before anything runs.

    Attributes:
        download: least and most bytes over the network.
        working: bytes of the checkpoint that each running training job keeps; None if unknown.
        waiting: bytes in the store of cells that are not in the grid.
        missing: files of the user's own that are named, and not there yet.
        basis: where the figures come from, a line each.
    """

    machine: Machine
    model: str
    made: int
    stored: int
    stages: tuple[Stage, ...]
    download: tuple[int, int]
    working: Figure | None
    waiting: int
    missing: tuple[str, ...]
    basis: tuple[str, ...]


def estimate(seen: Survey, machine: Machine, *, is_here: bool) -> Estimate:
    """Return the estimate.

    Args:
        machine: whose figures are taken where no job like one was timed.
        is_here: whether jobs run where ``seen`` timed some.
    """
    corpora = {
        name: corpus_of(cell, is_made=name in seen.made)
        for name, cell in seen.cells.items()
        if cell.stage == "download"
    }
    times = Times(seen, corpora, machine, seen.seconds if is_here else {})
    seconds, sizes = times.seconds(), sizes_of(seen, corpora)
    model = seen.params.pretrain.model
    remaining = set(seen.remaining)
    # What waits in the store comes back as links: nothing is written for it.
    to_fetch = [corpora[name].fetched for name in remaining if name in corpora]
    return Estimate(
        machine=machine,
        model=model,
        made=len(seen.made),
        stored=len(seen.stored),
        stages=tuple(_stages(seen, remaining, machine, seconds, sizes)),
        download=(sum(least for least, _ in to_fetch), sum(most for _, most in to_fetch)),
        working=working(model),
        waiting=store_bytes(seen.cells),
        missing=tuple(seen.missing),
        basis=tuple(basis_of(times)),
    )


def _stages(
    seen: Survey,
    remaining: set[str],
    machine: Machine,
    seconds: Mapping[str, Figure],
    sizes: Mapping[str, Figure],
) -> Iterable[Stage]:
    for stage in STAGES:
        names = [name for name, cell in seen.cells.items() if cell.stage == stage]
        hours = {name: Figure(seconds[name].value / 3600, seconds[name].source)
                 for name in names if name in seconds}  # fmt: skip
        yield Stage(
            name=stage,
            remaining=sum(name in remaining for name in names),
            jobs=len(names),
            unit="core" if stage in WITHOUT_GPU else machine.unit,
            hours=summed(names, hours, remaining),
            disk=summed(names, sizes, remaining),
        )


def summed(names: Iterable[str], known: Mapping[str, Figure], remaining: set[str]) -> Sum:
    """Return the sums over cells of what is known of them."""
    names = list(names)
    found = {name: known[name] for name in names if name in known}
    counts = Counter(figure.source for figure in found.values())
    return Sum(
        remaining=float(sum(figure.value for name, figure in found.items() if name in remaining)),
        whole=float(sum(figure.value for figure in found.values())),
        rest_on={source: counts[source] for source in SOURCES if counts[source]},
        unknown=len(names) - len(found),
    )
