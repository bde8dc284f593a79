"""Time and memory of scoring a stream of embeddings, and of an approximate search among all.

python -m benchmarks.streaming > benchmarks/results/streaming.md
"""

import argparse
import time
from collections.abc import Iterator
from math import sqrt

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.harness import Figures, Meter, cpu_seconds, machine, measure, page, peak_mb, table
from clipmend.data.seeds import stream
from clipmend.methods.table import create
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import Reference, neighborhoods, reference_rows

DETECTORS = ("k_distance", "slof", "lid", "dao")
DIM = 512
BLOCK = 4096  # rows generated at once
CONCEPTS, LOCAL_DIM = 1000, 32
# Kind -> share of the rows; the rest is clean. Of 32,768 references about 3 are in the rare
# cluster, fewer than any k, and 328 in the common one, more than any k.
KINDS = {"outliers": 1e-3, "rare cluster": 1e-4, "common cluster": 1e-2}
STREAM_HEAD = (
    "rows | generating the reference, s | the pass, s | of it generating, s | rows/s "
    "| the pass, core-s | peak memory after a tenth, MB | at the end, MB | load before"
)
STREAM_ROW = (
    "{rows:,} | {reference_seconds:.1f} | {seconds:.1f} | {generating:.1f} | {rate:,.0f} "
    "| {cpu:.1f} | {early_mb:,.0f} | {peak_mb:,.0f} | {load:.1f}"
)
SEARCH_HEAD = (
    "rows | cells | building, s (core-s) | probes | searching, s (core-s) | recall@16 "
    "| peak memory, MB | load before"
)
SEARCH_ROW = (
    "{rows:,} | {cells:,} | {build:.0f} ({build_cpu:.0f}) | {probes} "
    "| {query:.0f} ({query_cpu:.0f}) | {recall:.4f} | {peak_mb:,.0f} | {load:.1f}"
)


class Synthetic:
    """Embeddings generated block by block; a block depends on its first row alone.

    Clean rows lie around 1,000 concepts, in 32 dimensions.
    """

    def __init__(self, rows: int) -> None:
        generator = stream(0, "streaming/concepts")
        self.rows = rows
        self.kinds: list[Tensor] = []
        self.seconds = 0.0
        self._centers = normalize(torch.randn(CONCEPTS, DIM, generator=generator), dim=1)
        basis = torch.randn(LOCAL_DIM, DIM, generator=generator)
        self._basis = basis * 0.7 / sqrt(LOCAL_DIM * DIM)
        self._clusters = normalize(torch.randn(2, DIM, generator=generator), dim=1)

    def __iter__(self) -> Iterator[Tensor]:
        """Generate all blocks from the first; note their kinds and the seconds that it took."""
        self.kinds, self.seconds = [], 0.0
        for first in range(0, self.rows, BLOCK):
            begin = time.perf_counter()
            embeds, kind = self._block(first)
            self.kinds.append(kind.to(torch.int8))
            self.seconds += time.perf_counter() - begin
            yield embeds

    def _block(self, first: int) -> tuple[Tensor, Tensor]:
        generator = stream(0, f"streaming/{first}")
        size = min(BLOCK, self.rows - first)
        shares = torch.tensor([1 - sum(KINDS.values()), *KINDS.values()])
        kind = torch.multinomial(shares, size, replacement=True, generator=generator)
        concept = torch.randint(CONCEPTS, (size,), generator=generator)
        noise = torch.randn(size, DIM, generator=generator) / sqrt(DIM)
        local = torch.randn(size, LOCAL_DIM, generator=generator) @ self._basis
        embeds = self._centers[concept] + local + 0.1 * noise
        embeds[kind == 1] = noise[kind == 1]
        for cluster, center in enumerate(self._clusters, start=2):
            embeds[kind == cluster] = center + 0.05 * noise[kind == cluster]
        return normalize(embeds, dim=1), kind


def score_stream(rows: int, references: int) -> Figures:
    """Score a stream with all detectors in one pass; return the figures."""
    data = Synthetic(rows)
    chosen = reference_rows(rows, references, stream(0, "streaming/reference"))
    points = torch.empty(len(chosen), DIM)
    begin = time.perf_counter()
    for number, block in enumerate(data):
        inside = chosen // BLOCK == number
        points[inside] = block[chosen[inside] % BLOCK]
    reference_seconds = time.perf_counter() - begin
    detectors = {name: create("detect", name, {}) for name in DETECTORS}
    scores: dict[str, list[Tensor]] = {name: [] for name in DETECTORS}
    most, scored, early = max(d.neighbors for d in detectors.values()), 0, 0.0
    with Meter() as meter:
        for near in neighborhoods(data, Reference(points, chosen), most):
            for name, detector in detectors.items():
                scores[name].append(detector.score(near.first(detector.neighbors)))
            scored += len(scores[DETECTORS[0]][-1])
            early = peak_mb() if 10 * scored <= rows else early
    kind = torch.cat(data.kinds)
    areas = {name: _areas(torch.cat(parts), kind) for name, parts in scores.items()}
    return meter.figures | {
        "rows": rows,
        "reference_seconds": reference_seconds,
        "generating": data.seconds,
        "rate": rows / (meter.figures["seconds"] - data.seconds),
        "early_mb": early,
        "areas": areas,
    }


def _areas(scores: Tensor, kind: Tensor) -> Figures:
    """Return the AUROC of each kind against the clean rows; NaN if no row is of the kind."""
    areas = dict.fromkeys(KINDS, float("nan"))
    for number, name in enumerate(KINDS, start=1):
        rows = (kind == 0) | (kind == number)
        if (kind == number).any():
            areas[name] = float(roc_auc_score(kind[rows] == number, scores[rows]))
    return areas


def search_all(rows: int, probes: list[int]) -> Figures:
    """Search approximately among all rows; return the figures, those of each search apart."""
    embeds = torch.empty(rows, DIM)
    for number, block in enumerate(Synthetic(rows)):
        embeds[number * BLOCK :][: len(block)] = block
    begin, cpu = time.perf_counter(), cpu_seconds()
    index = index_of(embeds, stream(0, "streaming/index"))
    built, built_cpu = time.perf_counter() - begin, cpu_seconds() - cpu
    searches = []
    for count in probes:
        begin, cpu = time.perf_counter(), cpu_seconds()
        nearest = nearest_of_all(index, embeds, 16, probes=count)
        search = {"query": time.perf_counter() - begin, "query_cpu": cpu_seconds() - cpu}
        share = recall(nearest, embeds, stream(0, "streaming/recall"))
        searches.append(search | {"probes": count, "recall": share})
    figures = {"rows": rows, "cells": index.nlist, "build": built, "build_cpu": built_cpu}
    return figures | {"searches": searches, "peak_mb": peak_mb()}


def main() -> None:
    """Measure everything; print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--all-pairs", type=int, nargs="*", default=[200_000, 1_000_000])
    parser.add_argument("--reference", type=int, default=32768)
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    threads = options.threads
    streams = [measure(score_stream, n, options.reference, threads=threads) for n in options.rows]
    indexes = [measure(search_all, n, options.probes, threads=threads) for n in options.all_pairs]
    searches = [run | search for run in indexes for search in run["searches"]]
    areas = [{"detector": name} | kinds for name, kinds in streams[-1]["areas"].items()]
    area_row = " | ".join(["`{detector}`", *(f"{{{kind}:.3f}}" for kind in KINDS)])
    text = page(
        "streaming",
        machine=machine(threads),
        dim=DIM,
        detectors=", ".join(f"`{name}`" for name in DETECTORS),
        reference=options.reference,
        streams=table(streams, STREAM_HEAD, STREAM_ROW),
        rows=streams[-1]["rows"],
        areas=table(areas, " | ".join(["detector", *KINDS]), area_row),
        searches=table(searches, SEARCH_HEAD, SEARCH_ROW),
        **dict(zip(("outliers", "rare", "common"), KINDS.values(), strict=True)),
    )
    print(text, end="")


if __name__ == "__main__":
    main()
