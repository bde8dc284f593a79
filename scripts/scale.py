"""What poisoning, detection and training take of many pairs: a table for docs/.

python scripts/scale.py > docs/results/scale.md

Each stage is a process of its own, so that its peak of memory is its own too; its figures go to
the standard error output as soon as they are there.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clipmend.data import streaming
from clipmend.data.pairs import PAIRS, table_of
from clipmend.data.splits import load_split
from clipmend.data.writer import write_split
from clipmend.engine.job import Input, Job
from clipmend.methods.sources.scenes import Scenes

SIDE = 32
POOL = 5000  # different images
BLOCK = 8192  # pairs written at once
LEFT = 2**26  # bytes of decoded images from which a split is left in its file here
GLANCE = 0.5  # seconds between two looks at the memory of all processes
TARGET: dict[str, Any] = {"target": "banana", "target_captions": ["a photo of a {}"]}
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 4, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
# Each reads what those before it wrote.
STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "poison": ("badnet", {"poison_rate": 0.003}),
    "pretrain": ("mmcl", {"epochs": 1, "early_epoch": 1, "batch_size": 128}),
    "detect": ("clip_score", {}),
    "detect/ubt": ("ubt", {}),
}


def many(pool: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield so many pairs, a block at a time: images of the pool, each caption another."""
    draw = np.random.default_rng(0)
    for first in range(0, rows, BLOCK):
        numbers = range(first, min(first + BLOCK, rows))
        shown = pool.take(pa.array(draw.integers(len(pool), size=len(numbers))))
        said = shown["caption"].to_pylist()
        columns = {
            "id": [f"train-{number:09d}" for number in numbers],
            "image": shown["image"].combine_chunks(),
            "caption": [f"{text}, {number}" for text, number in zip(said, numbers, strict=True)],
            "label": shown["label"].to_pylist(),
        }
        yield from table_of(columns).to_batches()


def write_corpus(folder: Path, rows: int) -> None:
    """Write a corpus of so many training pairs: some drawn images, over and over."""
    scenes = Scenes(train=POOL, val=512, image_size=SIDE)
    write_split(scenes.split("val"), folder / "val.parquet")
    train = pa.RecordBatchReader.from_batches(PAIRS, many(scenes.split("train"), rows))
    write_split(train, folder / "train.parquet")
    stated = {"classes": list(scenes.classes), "prompts": ["a photo of a {}"], "image_size": SIDE}
    (folder / "classes.json").write_text(json.dumps(stated))
    (folder / "model.json").write_text(json.dumps(MODEL))


@dataclass
class Watched:
    """The most memory that this process and its children had at once, each page counted once."""

    peak: int = 0
    processes: int = 0
    _over: Event = field(default_factory=Event)

    def __enter__(self) -> "Watched":
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(GLANCE):
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            self.processes = max(self.processes, len(children))
            self.peak = max(self.peak, sum(map(share_of, ["self", *children])))


def share_of(process: str) -> int:
    """Return the memory of a process in bytes, pages shared by n processes counted as an nth."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it is over
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def run(root: Path, name: str) -> dict[str, Any]:
    """Run one stage as a job does; return the figures."""
    streaming._DECODED = LEFT
    stage = name.partition("/")[0]
    method, settings = STAGES[name]
    inputs = {
        role: Input(
            role, root / folder, stage_of, STAGES[role_of][0], 0, STAGES[role_of][1], TARGET
        )
        for role, folder, stage_of, role_of in (
            ("corpus", "corpus", "download", "poison"),
            ("poison", "poison", "poison", "poison"),
            ("victim", "pretrain", "pretrain", "pretrain"),
        )
    }
    (root / name).mkdir(parents=True)
    shared: dict[str, Any] = TARGET if stage == "poison" else {}
    if stage == "pretrain":
        shared = {"model": str(root / "corpus" / "model.json"), "pretrained": None}
    module = import_module(f"clipmend.stages.{stage}")
    before = peak_mb()
    begin, computing = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as work, Watched() as watched:
        job = Job(
            cell=name,
            stage=stage,
            method=method,
            seed=0,
            settings=settings,
            shared=shared,
            device="cpu",
            inputs=inputs,
            out=root / name,
            work=Path(work),
        )
        module.run(job)
        seconds = time.perf_counter() - begin
    return {
        "stage": stage,
        "method": method,
        "rows": pq.read_metadata(root / "corpus" / "train.parquet").num_rows,
        "seconds": seconds,
        "cpu": cpu_seconds() - computing,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "all_mb": watched.peak / 1e6,
        "processes": watched.processes,
    }


def loaded(root: Path) -> dict[str, Any]:
    """Read the poisoned split and nothing else; return what it takes in memory."""
    streaming._DECODED = LEFT
    before = share_of("self")
    begin = time.perf_counter()
    train = load_split(root / "corpus", "train", overlay=root / "poison" / "overlay.parquet")
    seconds = time.perf_counter() - begin
    return {"rows": len(train), "seconds": seconds, "mb": (share_of("self") - before) / 1e6}


def peak_mb() -> float:
    """Return the most memory that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def cpu_seconds() -> float:
    """Return the core-seconds of this process and of its children that are over."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def measured(root: Path, name: str) -> dict[str, Any]:
    """Return the figures of one stage, run by a process of its own."""
    command = [sys.executable, __file__, "--root", str(root), "--stage", name]
    load = os.getloadavg()[0]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) | {"load": load}
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def table(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table, a line a stage and size."""
    yield "| stage | pairs | wall, s | core-s | pairs/s | pairs/core-s |"
    yield " memory before, MB | peak, MB | with the decoders, MB | load before |\n"
    yield f"|---{'|--:' * 9}|\n"
    for one in runs:
        yield f"| {one['stage']} `{one['method']}` | {one['rows']:,} | {one['seconds']:,.0f} "
        yield f"| {one['cpu']:,.0f} | {one['rows'] / one['seconds']:,.0f} "
        yield f"| {one['rows'] / one['cpu']:,.0f} | {one['before_mb']:,.0f} "
        yield f"| {one['peak_mb']:,.0f} | {one['all_mb']:,.0f} | {one['load']:.1f} |\n"


PAGE = """\
# Many pairs, from poisoning to detection

{cores} cores ({machine}), one thread and {processes} decoding processes; {today}; written by
`scripts/scale.py`.

Images of {side} pixels: {pool:,} drawn ones, whose bytes stand under the ids and captions of all
pairs (each caption another). A split is left in its file here from {left:.0f} MB decoded on, not
from the 1 GiB of the pipeline, so that both sizes are. Decoded, the larger one's images would take
{decoded:,.0f} MB; its file has {file:,.0f} MB. The model is a ResNet of width 4 with a text tower
of one layer: what is measured is the pairs' way to it.

{table}
*Peak* is that of the process that computes, shared libraries included; *with the decoders* is the
most that it and its decoders had at one moment, pages that several share counted once (looked at
twice a second), so that it may be the smaller of the two. *Load* is how many processes wanted a
core in the minute before: where it is above {cores}, times are longer than they need be;
core-seconds are what was computed. `pretrain` is one pass over all pairs, `clip_score` another.
`ubt` zooms into each image four times, overfits a fifth of the pairs against as many drawn from all
others, looks at all pairs again, and compares each suspect with every other.

The decoders keep up to 512 MB of encoded images, which the smaller split does not fill. Ids,
captions, labels and marks take {each:,.0f} bytes a pair, by which a larger split needs more
memory; tokens take 4 for each place of the model's context.
"""


def page(sizes: list[int]) -> str:
    """Measure every stage at every size; return the page."""
    runs, loads = [], []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "corpus").mkdir()
            write_corpus(root / "corpus", rows)
            file = (root / "corpus" / "train.parquet").stat().st_size / 1e6
            runs += [measured(root, name) for name in STAGES]
            loads.append(measured(root, "loaded"))
    runs.sort(key=lambda one: [method for method, _ in STAGES.values()].index(one["method"]))
    grown = [loads[-1][name] - loads[0][name] for name in ("mb", "rows")]
    return PAGE.format(
        cores=os.cpu_count(),
        machine=platform.machine(),
        processes=max(one["processes"] for one in runs),
        today=date.today().isoformat(),
        side=SIDE,
        pool=POOL,
        left=LEFT / 1e6,
        decoded=sizes[-1] * 3 * SIDE**2 / 1e6,
        file=file,
        table="".join(table(runs)),
        each=1e6 * grown[0] / grown[1],
    )


def main() -> None:
    """Print the page, or the figures of one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.stage == "loaded":
        print(json.dumps(loaded(arguments.root)))
    elif arguments.stage is not None:
        print(json.dumps(run(arguments.root, arguments.stage)))
    else:
        print(page(arguments.rows), end="")


if __name__ == "__main__":
    main()
