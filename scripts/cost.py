"""What each repair costs: the seconds of every job that only it needs, without imports.

Reads `logs/benchmark/` and `results/report/cards.jsonl` of a finished run; prints Markdown.

python scripts/cost.py [project] > docs/results/cost.md
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipmend.engine.runner import THREADS
from clipmend.methods.table import METHODS, reference
from clipmend.tools.estimate.costs import wall_time

REPAIRS = ("unlearn", "baselines")
SHARED = ("download", "poison", "pretrain")  # there before anybody thinks of a repair
MEASURE = "cleanclip"  # what others are compared with
RUNS = 3


@dataclass(frozen=True)
class Cost:
    """What one repair of one victim took.

    Attributes:
        jobs: cell -> seconds without imports; None where the run has no time of making it.
    """

    victim: str
    repair: str
    jobs: Mapping[str, float | None]

    @property
    def seconds(self) -> float | None:
        """Return the sum; None where a job's time is not known."""
        known = [taken for taken in self.jobs.values() if taken is not None]
        return sum(known) if len(known) == len(self.jobs) else None


def read_cards(project: Path) -> dict[str, dict[str, Any]]:
    """Return the card of every cell of the run."""
    path = project / "results" / "report" / "cards.jsonl"
    if not path.is_file():
        raise SystemExit(f"{path} cannot be read: it is missing. Run `make all` first.")
    found = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {card["cell"]: card for card in found}


def needed(cell: str, cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the cells that a repair needs beside its victim, in the order of their making."""
    inputs = sorted(given["cell"] for given in cards[cell]["inputs"].values())
    before = [name for given in inputs if _stage(given) not in SHARED
              for name in needed(given, cards)]  # fmt: skip
    return list(dict.fromkeys([*before, cell]))


def costs(
    project: Path, cards: Mapping[str, Mapping[str, Any]], start: Callable[[str], float]
) -> list[Cost]:
    """Return the cost of each repair, in the order of the cells' names.

    Args:
        start: gives the seconds that a stage's imports take.
    """
    found = []
    for cell in sorted(name for name in cards if _stage(name) in REPAIRS):
        victim, _, repair = cell.partition("/")[2].rpartition("/")
        jobs = {}
        for job in needed(cell, cards):
            taken, begin = wall(project, job), start(_stage(job))
            # A job faster than a start ran elsewhere: what is left would be no cost of its own.
            jobs[job] = None if taken is None or taken < begin else taken - begin
        found.append(Cost(victim, repair, jobs))
    return found


def wall(project: Path, cell: str) -> float | None:
    """Return the seconds of a job's process; None where it did not make the cell.

    Not `cpu_time`: Snakemake samples it every half second for a quarter of a minute and every half
    minute thereafter, so it lacks up to 30 s of a longer job.
    """
    return wall_time(project / "logs/benchmark" / f"{cell}.tsv", project / "logs" / f"{cell}.log")


@cache
def imports(stage: str) -> float:
    """Return the seconds that a process of this stage takes to import, the median of three.

    Its CPU time, which is its wall time on an idle machine and depends little on other work.
    """
    modules = {"clipmend.cli", "clipmend.engine.job", f"clipmend.stages.{stage}"}
    modules |= {reference(stage, method)[0] for method in METHODS[stage]}
    # As a job does it: without the collector, in one thread.
    code = f"import gc; gc.disable(); import {', '.join(sorted(modules))}"
    environment = os.environ | dict.fromkeys(THREADS, "1")
    taken = []
    for _ in range(RUNS):
        begin = _children()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        taken.append(_children() - begin)
    return statistics.median(taken)


def tables(found: list[Cost]) -> str:
    """Return the table of each victim and repair, and that of the means over victims."""
    yardstick = {cost.victim: cost.seconds for cost in found
                 if cost.repair == MEASURE and cost.seconds is not None}  # fmt: skip
    lines = [f"| victim | repair | jobs | seconds | of {MEASURE}'s |", "|---|---|---|--:|--:|"]
    for cost in found:
        ratio = _ratio(cost.seconds, yardstick.get(cost.victim))
        jobs = " + ".join(f"{_brief(job)} {_tenths(taken)}" for job, taken in cost.jobs.items())
        lines.append(
            f"| {cost.victim} | `{cost.repair}` | {jobs} | {_tenths(cost.seconds)} | {ratio} |"
        )
    lines += ["", f"| repair | victims | seconds, mean | of {MEASURE}'s |", "|---|--:|--:|--:|"]
    for repair in dict.fromkeys(cost.repair for cost in found):
        known = {cost.victim: cost.seconds for cost in found
                 if cost.repair == repair and cost.seconds is not None}  # fmt: skip
        # Means of the same victims, or the ratio would compare other models.
        both = [victim for victim in known if victim in yardstick]
        ratio = _ratio(_mean([known[one] for one in both]), _mean([yardstick[one] for one in both]))
        mean = _mean(list(known.values()))
        lines.append(f"| `{repair}` | {len(known)} | {_tenths(mean)} | {ratio} |")
    return "\n".join(lines)


def note(stages: Mapping[str, float]) -> str:
    """Return how it was measured."""
    starts = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items())
    return (
        "A repair's cost is the wall time of every job that it needs beside the victim (`s` of "
        "Snakemake's benchmark files), less the imports of the job's process. The logs have no "
        f"time for those: they are the CPU seconds of {RUNS} starts, the median, measured just now "
        f"on this machine of {os.cpu_count()} cores, which is to be that of the run: {starts}. "
        "A question mark: the job was not made in that run, or took less than a start."
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _stage(cell: str) -> str:
    return cell.partition("/")[0]


def _brief(cell: str) -> str:
    return f"{_stage(cell)}/{cell.rpartition('/')[2]}"


def _tenths(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.1f}"


def _ratio(seconds: float | None, against: float | None) -> str:
    return f"{seconds / against:.2f}" if seconds is not None and against else ""


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, nargs="?", default=Path())
    project = parser.parse_args().project
    found = costs(project, read_cards(project), imports)
    stages = sorted({_stage(job) for cost in found for job in cost.jobs})
    print("# What each repair costs\n")
    print(f"{note({stage: imports(stage) for stage in stages})}\n\n{tables(found)}")


if __name__ == "__main__":
    main()
