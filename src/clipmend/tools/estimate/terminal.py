"""An estimate as a table in a terminal, and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from clipmend.tools.estimate.forecast import SOURCES, Estimate, Stage, Sum

_WIDE = 1000


def show(found: Estimate, console: Console) -> None:
    """Print the estimate."""
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    jobs, remaining = _counts(found)
    console.print(
        f"{remaining:,} of {jobs:,} jobs are to be made; {found.made:,} are made, {found.stored:,} "
        f"wait in the store. Model {found.model}; machine {found.machine.name}: "
        f"{found.machine.what}. Sizes were looked at, bytes were not read."
    )
    console.print(_table(found))
    least, most = found.download
    if most:
        console.print(f"Download: {_size(least)} to {_size(most)}, assumed.")
    if found.working is not None:
        console.print(
            f"While they run: {_size(found.working.value)} for each job that trains, its "
            f"checkpoint; {found.working.source}."
        )
    console.print(
        f"Store: {_size(found.waiting)} of other settings and code wait there, measured; a cell of "
        "this grid takes no room beside results/."
    )
    for line in found.basis:
        console.print(f"· {line}", highlight=False)
    if any(stage.hours.unknown for stage in found.stages):
        console.print(
            "No figure, and in no sum: jobs of a corpus whose size only its files tell, or of a "
            f"model that was timed neither here nor on {found.machine.name}."
        )
    if found.missing:
        console.print(f"Not there yet, and wanted by the run: {', '.join(found.missing)}.")


def as_document(found: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON holds it: hours, bytes."""
    jobs, remaining = _counts(found)
    return {
        "model": found.model,
        "machine": {"name": found.machine.name, "what": found.machine.what},
        "jobs": {"all": jobs, "remaining": remaining, "made": found.made, "stored": found.stored},
        "stages": [asdict(stage) for stage in found.stages],
        "download_bytes": {"least": found.download[0], "most": found.download[1]},
        "working_bytes_a_job": None if found.working is None else asdict(found.working),
        "waiting_in_store_bytes": found.waiting,
        "missing": list(found.missing),
        "basis": list(found.basis),
    }


def _counts(found: Estimate) -> tuple[int, int]:
    return (
        sum(stage.jobs for stage in found.stages),
        sum(stage.remaining for stage in found.stages),
    )


def _table(found: Estimate) -> Table:
    table = Table("stage")
    for name in ("to make", "jobs", "hours", "of all"):
        table.add_column(name, justify="right")
    table.add_column("rest on")
    for name in ("disk", "of all"):
        table.add_column(name, justify="right")
    table.add_column("rests on")
    for stage in found.stages:
        table.add_row(stage.name, *_row(stage))
    table.add_section()
    for unit in dict.fromkeys(stage.unit for stage in found.stages):
        table.add_row(f"all, {unit}-hours", *_total([s for s in found.stages if s.unit == unit]))
    return table


def _row(stage: Stage) -> tuple[str, ...]:
    return (
        f"{stage.remaining:,}",
        f"{stage.jobs:,}",
        _known(stage.hours, f"{_hours(stage.hours.remaining)} {stage.unit}-h"),
        _known(stage.hours, _hours(stage.hours.whole)),
        _rests(stage.hours),
        _known(stage.disk, _size(stage.disk.remaining)),
        _known(stage.disk, _size(stage.disk.whole)),
        _rests(stage.disk),
    )


def _total(stages: list[Stage]) -> tuple[str, ...]:
    return (
        f"{sum(stage.remaining for stage in stages):,}",
        f"{sum(stage.jobs for stage in stages):,}",
        f"{_hours(sum(stage.hours.remaining for stage in stages))} {stages[0].unit}-h",
        _hours(sum(stage.hours.whole for stage in stages)),
        "",
        _size(sum(stage.disk.remaining for stage in stages)),
        _size(sum(stage.disk.whole for stage in stages)),
        "",
    )


def _rests(of: Sum) -> str:
    told = [f"{of.rest_on[source]:,} {source}" for source in SOURCES if source in of.rest_on]
    return ", ".join([*told, *([f"{of.unknown:,} no figure"] if of.unknown else [])])


def _known(of: Sum, text: str) -> str:
    """Return the text; a question mark where no job of a sum has a figure."""
    return text if of.rest_on or not of.unknown else "?"


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 10 else f"{hours:,.0f}"


def _size(size: int | float) -> str:
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_:
            return f"{size / bytes_:,.1f} {unit}"
    return f"{size / 1e3:,.0f} kB"
