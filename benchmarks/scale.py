"""Time and memory of poisoning, training and detection on many pairs.

python -m benchmarks.scale > benchmarks/results/scale.md
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Figures, machine, measure, page, pss_mb, table
from benchmarks.stage import IN_MEMORY, run_stage, write_corpus
from clipmend.data import streaming
from clipmend.data.artifacts import OVERLAY
from clipmend.data.splits import load_split

SIZE = 32  # pixels
IMAGES = 5000  # different ones
# In order: each stage reads the folders of those before it.
STAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("poison", "badnet", {"poison_rate": 0.003}),
    ("pretrain", "mmcl", {"epochs": 1, "early_epoch": 1, "batch_size": 128}),
    ("detect", "clip_score", {}),
    ("detect", "ubt", {}),
)
HEAD = (
    "stage | pairs | wall, s | core-s | pairs/s | pairs/core-s "
    "| memory before, MB | peak, MB | with the decoders, MB | load before"
)
ROW = (
    "{stage} `{method}` | {rows:,} | {seconds:,.0f} | {cpu:,.0f} | {rate:,.0f} | {core_rate:,.0f} "
    "| {before_mb:,.0f} | {peak_mb:,.0f} | {all_mb:,.0f} | {load:.1f}"
)


def load_train(root: str) -> Figures:
    """Read the poisoned training split and nothing else; return what it takes in memory."""
    streaming._DECODED = IN_MEMORY
    folder, process = Path(root), psutil.Process()
    before = pss_mb(process)
    train = load_split(folder / "download", "train", overlay=folder / "poison" / OVERLAY)
    return {"rows": len(train), "mb": pss_mb(process) - before}


def main() -> None:
    """Measure every stage at every size; print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    sizes = parser.parse_args().rows
    runs, splits = [], []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder), rows, size=SIZE, images=IMAGES)
            runs += [measure(run_stage, folder, *stage) for stage in STAGES]
            splits.append(measure(load_train, folder))
    methods = [method for _, method, _ in STAGES]
    # The larger split less the smaller one: what every process has in memory cancels out.
    more = {name: splits[-1][name] - splits[0][name] for name in ("mb", "rows")}
    text = page(
        "scale",
        machine=machine(),
        processes=max(run["processes"] for run in runs),
        size=SIZE,
        images=IMAGES,
        in_memory=IN_MEMORY / 1e6,
        decoded=sizes[-1] * 3 * SIZE**2 / 1e6,
        file=runs[-1]["corpus_mb"],
        table=table(sorted(runs, key=lambda run: methods.index(run["method"])), HEAD, ROW),
        each=1e6 * more["mb"] / (more["rows"] or 1),
    )
    print(text, end="")


if __name__ == "__main__":
    main()
