"""The time of a training step in portable arithmetic, and in the fastest that torch has here.

python -m benchmarks.arithmetic > benchmarks/results/arithmetic.md

The two take turns, so that other work on the machine slows both.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Figures, machine, measure, page, table
from clipmend.data.artifacts import CLASSES, TRAIN
from clipmend.data.seeds import stream
from clipmend.data.splits import load_split
from clipmend.data.writer import write_split
from clipmend.methods.sources.scenes import Scenes
from clipmend.methods.table import create
from clipmend.model import arithmetic
from clipmend.model.arithmetic import Arithmetic
from clipmend.model.clip import build
from clipmend.model.fit import fit

BATCH = 128
STEPS = 32
KINDS: tuple[Arithmetic, ...] = ("portable", "fastest")
HEAD = "objective | arithmetic | core-ms per step, median of the turns | least | most | load before"
ROW = "`{objective}` | {kind} | {median:.1f} | {least:.1f} | {most:.1f} | {load:.1f}"


def write_corpus(folder: Path) -> None:
    """Write training pairs for ``STEPS`` steps."""
    scenes = Scenes(train=BATCH * STEPS)
    write_split(scenes.split("train"), folder / TRAIN)
    classes = {"classes": list(scenes.classes), "prompts": ["a photo of a {}"], "image_size": 32}
    (folder / CLASSES).write_text(json.dumps(classes))


def epoch(folder: str, kind: Arithmetic, objective: str) -> Figures:
    """Train for an epoch, and return the core-milliseconds of a step of the next one."""
    arithmetic.start(kind, "cpu")
    pairs = load_split(Path(folder), "train")
    model = build("scene_resnet", seed=0).prune_vocabulary(pairs.captions)
    method = create("pretrain", objective, {"epochs": 1, "batch_size": BATCH})
    model.prune_vocabulary([*pairs.captions, *method.texts()])
    task = method.task(model, pairs, stream(0, "benchmark/views"))
    fit(model, task, stream(0, "benchmark/fit"))  # the first step imports torch's compiler
    began = time.process_time()
    fit(model, task, stream(0, "benchmark/fit"))
    return {"ms": 1000 * (time.process_time() - began) / STEPS, "torch": torch.__version__}


def main() -> None:
    """Measure both kinds for both objectives, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    runs, costs = [], []
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        for objective in ("mmcl", "mmcl_ssl"):
            order = KINDS * turns
            figures = [(kind, _measured(kind, folder, objective)) for kind in order]
            pair = [_row(kind, objective, [f for k, f in figures if k == kind]) for kind in KINDS]
            runs += pair
            costs.append(f"{100 * (pair[0]['median'] / pair[1]['median'] - 1):.0f} %")
    rows = table(runs, HEAD, ROW)
    cost = " and ".join(costs)
    print(page("arithmetic", machine=machine(), rows=rows, turns=turns, cost=cost))


def _row(kind: Arithmetic, objective: str, figures: list[Figures]) -> dict[str, Any]:
    times = [figure["ms"] for figure in figures]
    return {
        "objective": objective,
        "kind": kind,
        "median": statistics.median(times),
        "least": min(times),
        "most": max(times),
        "load": max(figure["load"] for figure in figures),
    }


def _measured(kind: Arithmetic, folder: str, objective: str) -> Figures:
    before = dict(os.environ)
    arithmetic.prepare(kind)  # for the process of the part, which inherits the environment
    try:
        return measure(epoch, folder, kind, objective)
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main()
