"""What scoring a stream of embeddings takes in time and memory: tables for docs/.

python scripts/streaming.py > docs/results/streaming.md

Each measurement is a process of its own, so that its peak of memory is its own too; its figures
go to the standard error output as soon as they are there.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import date
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import normalize

from clipmend.data.seeds import stream
from clipmend.methods.table import create
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import collected, neighborhoods, reference_rows

DETECTORS = ("k_distance", "slof", "lid", "dao")
DIM = 512
BLOCK = 4096  # rows drawn at once
CONCEPTS, LOCAL_DIM = 1000, 32
# Clean, then: kind -> share of the rows. Of 32,768 references, a rare cluster has about 3: fewer
# than any k; a common one has 328: more than any.
PLANTED = {"outliers": 1e-3, "rare cluster": 1e-4, "common cluster": 1e-2}


class Synthetic:
    """Embeddings drawn block by block: what a row is depends on its block's number alone.

    Clean rows lie around 1,000 concepts, in 32 dimensions; outliers point anywhere; the
    clusters are points with a little noise, as triggered images are.
    """

    def __init__(self, rows: int) -> None:
        drawn = stream(0, "streaming/concepts")
        self.rows = rows
        self.kinds: list[Tensor] = []
        self.seconds = 0.0
        self._centers = normalize(torch.randn(CONCEPTS, DIM, generator=drawn), dim=1)
        self._basis = torch.randn(LOCAL_DIM, DIM, generator=drawn) * 0.7 / sqrt(LOCAL_DIM * DIM)
        self._clusters = normalize(torch.randn(2, DIM, generator=drawn), dim=1)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw all blocks, from the first; their kinds and the time it took are noted."""
        self.kinds, self.seconds = [], 0.0
        for first in range(0, self.rows, BLOCK):
            begin = time.perf_counter()
            embeds, kind = self._block(first)
            self.kinds.append(kind.to(torch.int8))
            self.seconds += time.perf_counter() - begin
            yield embeds

    def _block(self, first: int) -> tuple[Tensor, Tensor]:
        drawn = stream(0, f"streaming/{first}")
        size = min(BLOCK, self.rows - first)
        shares = torch.tensor([1 - sum(PLANTED.values()), *PLANTED.values()])
        kind = torch.multinomial(shares, size, replacement=True, generator=drawn)
        concept = torch.randint(CONCEPTS, (size,), generator=drawn)
        noise = torch.randn(size, DIM, generator=drawn) / sqrt(DIM)
        local = torch.randn(size, LOCAL_DIM, generator=drawn) @ self._basis
        embeds = self._centers[concept] + local + 0.1 * noise
        embeds[kind == 1] = noise[kind == 1]
        for cluster, center in enumerate(self._clusters, start=2):
            embeds[kind == cluster] = center + 0.05 * noise[kind == cluster]
        return normalize(embeds, dim=1), kind


def streamed(rows: int, references: int) -> dict[str, Any]:
    """Score a stream with four detectors in one pass; return its figures."""
    data = Synthetic(rows)
    begin = time.perf_counter()
    reference = collected(data, reference_rows(rows, references, stream(0, "streaming/reference")))
    fitted = time.perf_counter() - begin
    detectors = {name: create("detect", name, {}) for name in DETECTORS}
    scores: dict[str, list[Tensor]] = {name: [] for name in DETECTORS}
    early = 0.0
    begin, computing = time.perf_counter(), time.process_time()
    for near in neighborhoods(data, reference, max(d.neighbors for d in detectors.values())):
        for name, detector in detectors.items():
            scores[name].append(detector.score(near.first(detector.neighbors)))
        if 10 * sum(map(len, scores["dao"])) <= rows:
            early = peak_mb()
    figures = {"pass": time.perf_counter() - begin, "cpu": time.process_time() - computing}
    figures |= {"rows": rows, "drawing_reference": fitted, "drawing": data.seconds}
    # Before AUROC, which is no part of scoring.
    figures |= {"peak_early_mb": early, "peak_mb": peak_mb()}
    kind = torch.cat(data.kinds)
    areas = {name: areas_of(torch.cat(parts), kind) for name, parts in scores.items()}
    return figures | {"auroc": areas}


def areas_of(score: Tensor, kind: Tensor) -> dict[str, float]:
    """Return AUROC of each planted kind against the clean rows."""
    found = {}
    for number, name in enumerate(PLANTED, start=1):
        rows = (kind == 0) | (kind == number)
        found[name] = float(roc_auc_score(kind[rows] == number, score[rows]))
    return found


def all_pairs(rows: int, probes: Iterable[int]) -> dict[str, Any]:
    """Search approximately among all rows; return the figures."""
    embeds = torch.empty(rows, DIM)
    for number, block in enumerate(Synthetic(rows)):
        embeds[number * BLOCK : number * BLOCK + len(block)] = block
    begin, computing = time.perf_counter(), time.process_time()
    index = index_of(embeds, stream(0, "streaming/index"))
    figures: dict[str, Any] = {"rows": rows, "cells": index.nlist}
    figures["build"] = time.perf_counter() - begin
    figures["build_cpu"] = time.process_time() - computing
    figures["searches"] = []
    for count in probes:
        begin, computing = time.perf_counter(), time.process_time()
        found = nearest_of_all(index, embeds, 16, probes=count)
        search = {"query": time.perf_counter() - begin, "cpu": time.process_time() - computing}
        share = recall(found, embeds, stream(0, "streaming/recall"))
        figures["searches"].append({"probes": count, "recall": share} | search)
    return figures | {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the most memory that this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measured(arguments: argparse.Namespace, part: str, rows: int) -> dict[str, Any]:
    """Return the figures of one measurement, made by a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--rows", str(rows)]
    command += ["--reference", str(arguments.reference), "--threads", str(arguments.threads)]
    command += ["--probes", *map(str, arguments.probes)]
    # A thread that waits sleeps: spinning would count as computing, and take a shared core.
    threads = {"OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "passive"}
    load = os.getloadavg()[0]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads
    )
    figures: dict[str, Any] = json.loads(done.stdout) | {"load": load}
    print(part, json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def machine(threads: int) -> str:
    """Return what the figures were measured on, in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores ({name}), {threads} threads, torch {torch.__version__}"


def stream_table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of the streams' times and memory."""
    yield "| rows | drawing the reference, s | the pass, s | of which drawing, s | rows/s |"
    yield " the pass, core-s | peak memory after a tenth, MB | at the end, MB | load before |\n"
    yield f"{'|---' * 9}|\n"
    for run in runs:
        rate = run["rows"] / (run["pass"] - run["drawing"])
        yield f"| {run['rows']:,} | {run['drawing_reference']:.1f} | {run['pass']:.1f} "
        yield f"| {run['drawing']:.1f} | {rate:,.0f} | {run['cpu']:.1f} "
        yield f"| {run['peak_early_mb']:,.0f} | {run['peak_mb']:,.0f} "
        yield f"| {run['load']:.1f} |\n"


def area_table(run: dict[str, Any]) -> Iterator[str]:
    """Yield AUROC, a row per detector and a column per planted kind."""
    yield f"| detector | {' | '.join(PLANTED)} |\n|---{'|---' * len(PLANTED)}|\n"
    for name, areas in run["auroc"].items():
        yield f"| `{name}` | {' | '.join(f'{areas[kind]:.3f}' for kind in PLANTED)} |\n"


def search_table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of the approximate searches."""
    yield "| rows | cells | building, s (core-s) | probes | searching, s (core-s) | recall@16 |"
    yield " peak memory, MB | load before |\n|---|---|---|---|---|---|---|---|\n"
    for run in runs:
        for search in run["searches"]:
            yield f"| {run['rows']:,} | {run['cells']:,} "
            yield f"| {run['build']:.0f} ({run['build_cpu']:.0f}) "
            yield f"| {search['probes']} | {search['query']:.0f} ({search['cpu']:.0f}) "
            yield f"| {search['recall']:.4f} "
            yield f"| {run['peak_mb']:,.0f} | {run['load']:.1f} |\n"


PAGE = """\
# Scoring a stream

{machine}; {today}; written by `scripts/streaming.py`.
*Load* is how many processes wanted a core in the minute before: where it is not near 0, others
shared the cores, and times are longer than they need be; core-seconds are what was computed.

## Against a reference set

Synthetic embeddings of width {dim}, drawn block by block, are scored against {reference:,} of them
by {detectors} in one pass (k = 16, and 64 for `lid`).
The pass holds the search of the reference's own neighbors too. *Rows/s* is without the drawing.

{streams}
What is kept per row is four scores and its kind, 17 bytes. AUROC against clean rows, of
{rows:,} rows:

{areas}
`outliers` ({outliers:.2%} of the rows) point anywhere. The clusters are points with a little noise,
as triggered images are. Of the rare one ({rare:.2%}) the reference holds fewer than k, of the
common one ({common:.0%}) more: a distance to the k-th nearest finds the first, and takes the second
for the most normal there is. That is what these detectors do, no fault of the stream.

## All pairs, approximately

faiss's inverted file over all rows (`search: approximate`), k = 16; recall over 1,000 queries
against exact search. The embeddings are in memory twice here, once in the index.

{searches}"""


def page(arguments: argparse.Namespace) -> str:
    """Measure everything; return the page."""
    streams = [measured(arguments, "streamed", rows) for rows in arguments.rows]
    searches = [measured(arguments, "all_pairs", rows) for rows in arguments.all_pairs]
    return PAGE.format(
        machine=machine(arguments.threads),
        today=date.today().isoformat(),
        dim=DIM,
        reference=arguments.reference,
        detectors=", ".join(f"`{name}`" for name in DETECTORS),
        streams="".join(stream_table(streams)),
        rows=streams[-1]["rows"],
        areas="".join(area_table(streams[-1])),
        searches="".join(search_table(searches)),
        **dict(zip(("outliers", "rare", "common"), PLANTED.values(), strict=True)),
    )


def main() -> None:
    """Print the page, or the figures of one part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--all-pairs", type=int, nargs="*", default=[200_000, 1_000_000])
    parser.add_argument("--reference", type=int, default=32768)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=["streamed", "all_pairs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.part == "streamed":
        print(json.dumps(streamed(arguments.rows[0], arguments.reference)))
    elif arguments.part == "all_pairs":
        print(json.dumps(all_pairs(arguments.rows[0], arguments.probes)))
    else:
        print(page(arguments), end="")


if __name__ == "__main__":
    main()
