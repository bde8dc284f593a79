"""How long a look at 1,000 cells takes, where every job is a stub: a table for docs/.

python scripts/benchmark.py > docs/results/benchmark.md
"""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / "tests" / "workflow" / "conftest.py"
# One process makes all cells, as their jobs would: 1,000 processes are not what is measured.
MAKE = "from clipmend import job, plan\nfor name in plan.arrange().cells: job.run(name)"
GRID: dict[str, Any] = {
    "seeds": list(range(11)),  # 1,091 cells
    "pretrain": {"model": "stub", "methods": ["mmcl", "mmcl_ssl"]},
    "detect": {"methods": ["ubt", "clip_score"]},
    "unlearn": {
        "methods": ["ubt", "ubt@random", "ubt@oracle"],
        "settings": {"ubt@random": {"rate": 0.2}, "ubt@oracle": {"rate": 0.3}},
    },
    "baselines": {"methods": ["ft", "cleanclip"]},
}
EDITED = GRID | {"baselines": {"methods": ["ft", "cleanclip"], "settings": {"ft": {"rate": 0.7}}}}
LIMITS = {"snakemake -n all": 10.0, "clipmend verify": 5.0, "clipmend audit": 5.0}


def stubs() -> ModuleType:
    """Return the module that builds a project of stubs, which the tests use too."""
    spec = importlib.util.spec_from_file_location("stubs", STUBS)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{STUBS} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["stubs"] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def grid(poison: Any) -> dict[str, Any]:
    """Return the section `poison` with three attacks."""
    return {**poison, "methods": ["unpoisoned", "badnet", "blended"]}


def seconds(project: Any, *command: str) -> float:
    """Return how long a command takes, the better of two."""
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        done = project.call(*command)
        taken.append(time.perf_counter() - begin)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return min(taken)


def make(project: Any, sections: dict[str, Any]) -> None:
    """Write the parameters and make every cell."""
    project.params(**sections)
    done = project.call(sys.executable, "-c", MAKE)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def measure(folder: Path) -> tuple[int, dict[str, float]]:
    """Return the number of cells and the seconds of each command."""
    module = stubs()
    project = module.build(folder)
    poison = {"poison": grid(module.PARAMS["poison"])}
    make(project, GRID | poison)
    before = folder / "before"
    shutil.copytree(folder / "results", before)
    times = {"snakemake -n all": seconds(project, "snakemake", "-n", "all")}
    times["clipmend status"] = seconds(project, "clipmend", "status")
    times["clipmend verify"] = seconds(project, "clipmend", "verify")
    make(project, EDITED | poison)
    times["clipmend audit"] = seconds(project, "clipmend", "audit", str(before))
    return len(list((folder / "results").rglob("card.json"))), times


def main() -> None:
    """Print the table; exit 1 where a limit is missed."""
    with tempfile.TemporaryDirectory() as folder:
        cells, times = measure(Path(folder).resolve())
    print("# A look at a thousand cells\n")
    print(f"{cells:,} cells, {os.cpu_count()} cores ({platform.machine()}), better of two runs, ")
    print("jobs are stubs; written by `scripts/benchmark.py`.\n")
    print("| command | seconds | limit |\n|---|---|---|")
    for command, taken in times.items():
        limit = LIMITS.get(command)
        print(f"| `{command}` | {taken:.1f} | {'' if limit is None else f'{limit:.0f}'} |")
    if any(times[command] > limit for command, limit in LIMITS.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
