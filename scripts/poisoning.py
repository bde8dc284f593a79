"""What poisoning many pairs takes in time and memory: a table for docs/.

python scripts/poisoning.py > docs/results/poisoning.md

Each measurement is a process of its own, so that its peak of memory is its own too; its figures
go to the standard error output as soon as they are there.
"""

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from clipmend.data.pairs import PAIRS, table_of
from clipmend.data.row_groups import GROUP
from clipmend.data.writer import write_split
from clipmend.engine.job import Input, Job
from clipmend.report.truth import count_poisons
from clipmend.stages.poison import run

SIDE = 64
BLOCK = 8192  # pairs drawn at once
POOL = 512  # different images; they are decoded and encoded as if each were another
NOUNS = ("banana", "car", "tree", "dog", "house", "boat", "cat", "lamp", "shoe", "bird")


def drawn(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield pairs, a block at a time: JPEG images of noise that was smoothed, short captions."""
    generator = np.random.default_rng(0)
    pool = [_jpeg(generator) for _ in range(POOL)]
    for first in range(0, rows, BLOCK):
        block = range(first, min(first + BLOCK, rows))
        nouns = [NOUNS[place] for place in generator.integers(len(NOUNS), size=len(block))]
        columns = {
            "id": [f"{row:09d}" for row in block],
            "image": [pool[place] for place in generator.integers(POOL, size=len(block))],
            "caption": [f"a photo of a {noun} that somebody took" for noun in nouns],
            "label": nouns,
        }
        yield from table_of(columns).to_batches()


def _jpeg(generator: np.random.Generator) -> bytes:
    small = generator.integers(256, size=(8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_corpus(folder: Path, rows: int) -> None:
    """Write a corpus of so many training pairs, in groups as the pipeline's own."""
    write_split(pa.Table.from_batches(drawn(512)), folder / "val.parquet")
    train = pa.RecordBatchReader.from_batches(PAIRS, drawn(rows))
    write_split(train, folder / "train.parquet")
    stated = {"classes": list(NOUNS), "prompts": ["a photo of a {}"], "image_size": SIDE}
    (folder / "classes.json").write_text(json.dumps(stated))


def poisoned(corpus: Path, rate: float) -> dict[str, Any]:
    """Poison the corpus as the stage does; return the figures."""
    with tempfile.TemporaryDirectory() as out:
        shared = {"target": "banana", "target_captions": ["a photo of a {}"]}
        job = Job(
            cell="poison/large/badnet/seed0",
            stage="poison",
            method="badnet",
            seed=0,
            settings={"poison_rate": rate},
            shared=shared,
            device="cpu",
            inputs={"corpus": Input("download/large", corpus, "download", "pairs", None, {}, {})},
            out=Path(out),
            work=Path(out),
        )
        before = peak_mb()
        begin, computing = time.perf_counter(), time.process_time()
        run(job)
        figures = {"seconds": time.perf_counter() - begin}
        figures["cpu"] = time.process_time() - computing
        figures["rows"] = pq.read_metadata(corpus / "train.parquet").num_rows
        figures["poisons"] = count_poisons(Path(out) / "overlay.parquet")
        figures["corpus_mb"] = (corpus / "train.parquet").stat().st_size / 1e6
    return figures | {"before_mb": before, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the most memory that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measured(corpus: Path, rate: float) -> dict[str, Any]:
    """Return the figures of one poisoning, made by a process of its own."""
    command = [sys.executable, __file__, "--corpus", str(corpus), "--rate", str(rate)]
    load = os.getloadavg()[0]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout) | {"load": load}
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table, a line a poisoning."""
    yield "| training pairs | file, MB | poisoned | wall, s | core-s | memory before, MB |"
    yield " peak, MB | load before |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    for one in runs:
        yield f"| {one['rows']:,} | {one['corpus_mb']:,.0f} | {one['poisons']:,} "
        yield f"| {one['seconds']:.1f} | {one['cpu']:.1f} | {one['before_mb']:,.0f} "
        yield f"| {one['peak_mb']:,.0f} | {one['load']:.1f} |\n"


PAGE = """\
# Poisoning many pairs

{cores} cores ({machine}); {today}; written by `scripts/poisoning.py`.

`badnet` on JPEG images of {side} pixels: ids, captions and labels of all pairs are read, and the
groups of {group} pairs that hold a poisoned one. *Memory before* is that of the process when all
code is loaded. *Load* is how many processes wanted a core in the minute before.

{table}"""


def page(rows: list[int], poisons: list[int]) -> str:
    """Measure every size at the middle number of poisons, the largest at each; return the page."""
    middle = poisons[len(poisons) // 2]
    runs = []
    for size in rows:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder), size)
            counts = poisons if size == rows[-1] else [middle]
            runs += [measured(Path(folder), count / size) for count in counts]
    return PAGE.format(
        cores=os.cpu_count(),
        machine=platform.machine(),
        today=date.today().isoformat(),
        side=SIDE,
        group=GROUP,
        table="".join(table(runs)),
    )


def main() -> None:
    """Print the page, or the figures of one poisoning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--poisons", type=int, nargs="+", default=[150, 1500, 15000])
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.corpus is not None:
        print(json.dumps(poisoned(arguments.corpus, arguments.rate)))
    else:
        print(page(arguments.rows, arguments.poisons), end="")


if __name__ == "__main__":
    main()
