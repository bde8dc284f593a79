"""Runs each part of a benchmark in a process of its own, and formats the figures.

A part is a function of a benchmark's module. Its arguments and its figures are JSON. A process of
its own gives each part a peak of memory that no other part raised.
"""

import importlib
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import torch

Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
INTERVAL = 0.5  # seconds between two samples of memory


class Meter:
    """Measures a block: its seconds, its core-seconds, and the memory in use meanwhile.

    Attributes:
        figures: after the block: ``seconds``; ``cpu``, in core-seconds; ``before_mb`` and
            ``peak_mb``, the peak resident memory of this process before and after; ``all_mb``, the
            most memory that it and its children shared at once; ``processes``, the most children.
    """

    def __enter__(self) -> "Meter":
        """Start the clock and the sampling."""
        self.figures: Figures = {"before_mb": peak_mb(), "all_mb": 0.0, "processes": 0}
        self._end = Event()
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()
        self._begin = time.perf_counter(), cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        """Note the figures."""
        now = time.perf_counter(), cpu_seconds()
        self._end.set()
        self._thread.join()
        seconds, cpu = (late - early for early, late in zip(self._begin, now, strict=True))
        self.figures |= {"seconds": seconds, "cpu": cpu, "peak_mb": peak_mb()}

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._end.wait(INTERVAL):
            children, memory = process.children(recursive=True), 0.0
            for each in [process, *children]:
                with suppress(psutil.Error):  # the child ended meanwhile
                    memory += pss_mb(each)
            self.figures["all_mb"] = max(self.figures["all_mb"], memory)
            self.figures["processes"] = max(self.figures["processes"], len(children))


def pss_mb(process: psutil.Process) -> float:
    """Return the memory of a process in MB; it counts 1/n of a page that n processes share."""
    return float(process.memory_full_info().pss) / 1e6


def peak_mb() -> float:
    """Return the most memory that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def cpu_seconds() -> float:
    """Return the core-seconds of this process and of its children that ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def measure(part: Callable[..., Figures], *arguments: object, threads: int = 1) -> Figures:
    """Return the figures of a part, with the machine's ``load`` before it; print them as JSON."""
    module = f"benchmarks.{inspect.getmodulename(inspect.getfile(part))}"
    call = [module, part.__name__, json.dumps(arguments)]
    # A passive thread sleeps while it waits: a spinning one would count as computing.
    settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness", *call],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1]) | {"load": load}
    print(part.__name__, json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def table(runs: Iterable[Mapping[str, Any]], head: str, row: str) -> str:
    """Return a Markdown table with a row per run.

    Args:
        head: the names of the columns, between ``|``.
        row: the same for a run, a format string over its figures, such as ``{seconds:.1f}``.
    """
    rule = "---" + " | --:" * head.count("|")
    lines = [head, rule, *(row.format(**run) for run in runs)]
    return "".join(f"| {line} |\n" for line in lines)


def machine(threads: int = 1) -> str:
    """Return the machine, the version of torch and the date, for the head of a page."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = f"{os.cpu_count()} cores ({names[0] if names else platform.machine()})"
    plural = "" if threads == 1 else "s"
    return f"{cores}, {threads} thread{plural}, torch {torch.__version__}; {date.today()}"


def page(name: str, **values: object) -> str:
    """Return a page of ``benchmarks/pages`` with the values in place of their names."""
    template = Path(__file__).with_name("pages") / f"{name}.md"
    return template.read_text(encoding="utf-8").format(**values)


if __name__ == "__main__":
    module, name, arguments = sys.argv[1:]
    part = getattr(importlib.import_module(module), name)
    print(json.dumps(part(*json.loads(arguments))))
