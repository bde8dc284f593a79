"""The seconds of every job that a repair needs, without the imports of the job's process.

Reads `logs/` and the cards of a finished run. The victim costs nothing here: it exists
before anybody thinks of a repair.

python studies/cost/make.py [project] > studies/cost/README.md
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd

from clipmend.engine.cell import Place
from clipmend.methods.table import METHODS, reference
from clipmend.model.arithmetic import THREADS
from clipmend.tools.estimate.costs import job_seconds

REPAIRS = ("unlearn", "baselines")
JOBS = ("detect", *REPAIRS)  # the stages whose jobs a repair needs
YARDSTICK = "cleanclip"
STARTS = 3
PAGE = """\
# What each repair costs

The cost of a repair is the CPU time of every job that it needs besides the victim, from the jobs'
logs, less the imports of the job's process. The imports are the median CPU
seconds of {starts} starts, measured now on this machine of {cores} cores, which has to be the
machine of the run: {imports}. A question mark: the run did not make the cell, or the job took less
than its imports. Written by `studies/cost/make.py`.

| victim | repair | jobs | seconds | of cleanclip's |
|---|---|---|--:|--:|
{table}
| repair | victims | seconds, mean | of cleanclip's |
|---|--:|--:|--:|
{means}"""


def read_inputs(project: Path) -> dict[str, list[str]]:
    """Return the inputs of every cell of the run, by name."""
    path = project / "results/report/cards.jsonl"
    if not path.is_file():
        raise SystemExit(f"{path} does not exist. Run `make all` first.")
    cards = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {
        card["cell"]: sorted(entry["cell"] for entry in card["inputs"].values()) for card in cards
    }


def jobs_of(cell: str, inputs: dict[str, list[str]]) -> list[str]:
    """Return the cells that a repair needs besides its victim, in the order of their making."""
    before = [name for name in inputs[cell] if Place.parse(name).stage in JOBS]
    return list(dict.fromkeys([*(job for name in before for job in jobs_of(name, inputs)), cell]))


@cache
def import_seconds(stage: str) -> float:
    """Return the CPU seconds that a process of this stage takes to import."""
    modules = {"clipmend.cli", "clipmend.engine.job", f"clipmend.stages.{stage}"}
    modules |= {reference(stage, method)[0] for method in METHODS[stage]}
    # As a job does it: without the collector, in one thread.
    lines = ("import gc, time", "gc.disable()", f"import {', '.join(sorted(modules))}")
    command = [sys.executable, "-c", "; ".join([*lines, "print(time.process_time())"])]
    environment = os.environ | THREADS
    starts = [subprocess.check_output(command, env=environment) for _ in range(STARTS)]
    return statistics.median(map(float, starts))


def costs(project: Path, imports: Callable[[str], float]) -> pd.DataFrame:
    """Return a row per victim and repair; the seconds are NaN where those of a job are unknown."""
    inputs, rows, logs = read_inputs(project), [], project / "logs"
    for cell in sorted(name for name in inputs if Place.parse(name).stage in REPAIRS):
        jobs = {}
        for name in jobs_of(cell, inputs):
            job = Place.parse(name)
            used = job_seconds(logs / "benchmark" / f"{name}.tsv", logs / f"{name}.log")
            seconds = math.nan if used is None else used - imports(job.stage)
            jobs[f"{job.stage}/{job.method}"] = seconds if seconds >= 0 else math.nan
        place, total = Place.parse(cell), sum(jobs.values())
        printed = " + ".join(f"{job} {seconds:.1f}" for job, seconds in jobs.items())
        rows.append((place.victim_path, place.method, printed, total))
    table = pd.DataFrame(rows, columns=["victim", "repair", "jobs", "seconds"])
    yardstick = table[table["repair"] == YARDSTICK].set_index("victim")["seconds"]
    table["yardstick"] = table["victim"].map(yardstick)
    return table.assign(share=table["seconds"] / table["yardstick"])


def page(table: pd.DataFrame, imports: Callable[[str], float]) -> str:
    """Return the page: a table of victims and repairs, and one of the means over victims."""
    means = table.groupby("repair", sort=False)["seconds"].agg(["count", "mean"])
    # The ratio compares means over the same victims.
    both = table.dropna().groupby("repair", sort=False)[["seconds", "yardstick"]].mean()
    means["share"] = both["seconds"] / both["yardstick"]
    each = [
        "| {victim} | `{repair}` | {jobs} | {seconds:.1f} | {share:.2f} |\n".format_map(row)
        for row in table.to_dict("records")
    ]
    mean = [
        "| `{repair}` | {count} | {mean:.1f} | {share:.2f} |\n".format_map(row)
        for row in means.reset_index().to_dict("records")
    ]
    return PAGE.format(
        starts=STARTS,
        cores=os.cpu_count(),
        imports=", ".join(f"{stage} {imports(stage):.1f} s" for stage in JOBS),
        table=re.sub(r"\bnan\b", "?", "".join(each)),
        means=re.sub(r"\bnan\b", "?", "".join(mean)),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, nargs="?", default=Path())
    print(page(costs(parser.parse_args().project, import_seconds), import_seconds), end="")
