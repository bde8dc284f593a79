"""Seconds that the commands take on a graph of a thousand finished cells, and a job on its plan.

python -m benchmarks.idle_graph > benchmarks/results/idle_graph.md
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import fmean
from timeit import repeat
from typing import Any

import yaml

from benchmarks.harness import ROOT, Figures, machine, measure, page, table
from clipmend.data.artifacts import CHOSEN, FINDING, MODEL_SCORE, OUTPUTS
from clipmend.engine import plan, runner
from clipmend.engine.cell import RESULTS
from clipmend.engine.job import Job
from clipmend.methods.table import STAGES

PROJECT = ("Snakefile", "dvc.yaml", ".dvcignore", "workflow")
READ = "a job reads its entry of the plan"
LIMITS = {"snakemake -n all": 4.0, "clipmend verify": 5.0, "clipmend audit": 5.0, READ: 0.05}
"""The most seconds that each may take."""

LARGE = 32  # seeds of the largest plan: 3,170 cells with the default parameters


def make_cells(project: str) -> Figures:
    """Make every cell of a project except the report, with a few bytes in place of results."""
    os.chdir(project)
    for stage in STAGES:
        vars(import_module(f"clipmend.stages.{stage}"))["run"] = _write_stubs
    cells = [name for name in plan.arrange().cells if name != "report"]
    for name in cells:
        if not (RESULTS / name).exists():
            runner.run(name)
    return {"cells": len(cells)}


def read_entries(project: str) -> Figures:
    """Arrange a project, and return the longest and the mean time in which an entry is read."""
    os.chdir(project)
    names = list(plan.arrange().cells)
    seconds = [min(repeat(partial(plan.entry, name), repeat=2, number=1)) for name in names]
    return {"cells": len(seconds), "longest": max(seconds), "mean": fmean(seconds)}


def make_project(project: Path, params: dict[str, Any]) -> None:
    """Write a project of the default workflow with these parameters."""
    project.mkdir()
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    (project / "profiles").symlink_to("workflow/profiles")
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def _write_stubs(job: Job) -> None:
    names = {*OUTPUTS[job.stage].values()}
    names |= {CHOSEN, FINDING} if job.stage == "unlearn" else set()
    names |= {MODEL_SCORE} if job.stage == "detect" else set()
    for name in names:
        (job.out / name).write_text(json.dumps([job.cell, name, dict(job.settings)]))


def best_seconds(project: Path, *command: str) -> float:
    """Return how long a command takes, the better of two runs.

    Raises:
        SystemExit: the command failed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=project,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.perf_counter() - begin)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return min(seconds)


def main() -> None:
    """Measure every command; print the page, and exit with 1 if a command misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=11)
    seeds = parser.parse_args().seeds
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["seeds"] = list(range(seeds))
    params["arithmetic"] = "fastest"  # stubs compute nothing, in a process that has torch already
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve() / "project"
        make_project(project, params)
        cells = measure(make_cells, str(project))["cells"]
        times = {
            command: best_seconds(project, *command.split())
            for command in ("snakemake -n all", "clipmend status", "clipmend verify")
        }
        shutil.copytree(project / "results", project / "before")
        params["baselines"].setdefault("settings", {})["ft"] = {"lr": 0.01}
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        measure(make_cells, str(project))
        times["clipmend audit"] = best_seconds(project, "clipmend", "audit", "before")
        large = project.with_name("large")
        make_project(large, {**params, "seeds": list(range(LARGE))})
        reading = measure(read_entries, str(large))
        times[READ] = reading["longest"]
    rows = [
        {
            "what": what if what == READ else f"`{what}`",
            "seconds": seconds,
            "limit": LIMITS.get(what, ""),
        }
        for what, seconds in times.items()
    ]
    text = table(rows, "what | seconds | limit", "{what} | {seconds:.2g} | {limit}")
    values = {"cells": cells, "seeds": seeds, "mean": 1000 * reading["mean"]}
    values |= {"large": reading["cells"], "machine": machine(), "table": text}
    print(page("idle_graph", **values), end="")
    if any(times[command] > limit for command, limit in LIMITS.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
