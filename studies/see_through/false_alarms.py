"""The rate of false alarms of ``shared_pattern`` on small models that were never poisoned.

python studies/see_through/false_alarms.py SCENES PHOTOGRAPHS OUT

SCENES is the folder of the corpus `scenes`, PHOTOGRAPHS a parquet file of images and captions, OUT
the CSV file with a row per model. A run that was stopped goes on.
"""

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from clipmend.data.images import decode_all
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.data.words import words_of
from clipmend.methods.detectors.shared_pattern import SharedPattern
from clipmend.methods.interfaces import Assets
from clipmend.methods.table import create
from clipmend.model.clip import build
from clipmend.model.fit import Hooks, fit

SEEDS = range(301, 309)
EPOCHS = {"mmcl": 5, "mmcl_ssl": 4}
COLUMNS = ("corpus", "seed", "objective", "n_pairs", "p_value", "found")
FREQUENT = ("banana", "house", "red", "tree", "star", "fish")
SHARE = 0.3  # of the captions that have the frequent word


def main(scenes: Path, photographs: Path, out: Path) -> None:
    """Train the models, search each for a backdoor, and write the rows as they come.

    Models that the file has already are not trained again.
    """
    done = set[tuple[str, str, str]]()
    if out.exists():
        with out.open(newline="", encoding="utf-8") as file:
            done = {(row["corpus"], row["seed"], row["objective"]) for row in csv.DictReader(file)}
    with out.open("a", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            rows.writeheader()
        for seed, (name, pairs), objective in _cases(scenes, photographs):
            if (name, str(seed), objective) in done:
                continue
            p_value, found = _searched(pairs, seed, objective)
            row = {"corpus": name, "seed": seed, "objective": objective, "n_pairs": len(pairs)}
            rows.writerow(row | {"p_value": p_value, "found": found})
            file.flush()


def _cases(scenes: Path, photographs: Path) -> Iterator[tuple[int, tuple[str, Pairs], str]]:
    for seed in SEEDS:
        corpora = {
            "scenes": _scenes(scenes, seed),
            "scenes, one word in 30 %": _unbalanced(scenes, seed),
            "photographs": _photographs(photographs, seed),
        }
        for corpus, objective in product(corpora.items(), EPOCHS):
            yield seed, corpus, objective


def _searched(pairs: Pairs, seed: int, objective: str) -> tuple[float, bool]:
    """Return the smallest p-value of any group, and whether a group is a finding."""
    method = create("pretrain", objective, {"epochs": EPOCHS[objective]})
    model = build("scene_resnet", seed=seed)
    model.prune_vocabulary([*pairs.captions, *method.texts()])
    fit(model, method.task(model, pairs, stream(seed, "a")), stream(seed, "b"), Hooks())
    generator = torch.Generator().manual_seed(seed)
    scores = SharedPattern()(Assets(model.eval(), train=lambda: pairs), generator, Hooks())
    columns = scores.columns
    return float(columns["p_value"].min()), bool(columns["suspect"].any())


def _sampled(pairs: Pairs, rows: torch.Tensor) -> Pairs:
    part = pairs.take(rows)
    return replace(part, ids=tuple(map(str, range(len(rows)))), images=part.images[:])


def _scenes(folder: Path, seed: int) -> Pairs:
    pairs = load_split(folder, "train")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pairs)))
    return _sampled(pairs, order[:2000])


def _unbalanced(folder: Path, seed: int) -> Pairs:
    pairs = load_split(folder, "train")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pairs)))
    word = FREQUENT[seed % len(FREQUENT)]
    has = torch.tensor([word in words_of(pairs.captions[row]) for row in order.tolist()])
    rest = round(int(has.sum()) * (1 - SHARE) / SHARE)
    return _sampled(pairs, torch.cat([order[has], order[~has][:rest]]))


def _photographs(path: Path, seed: int) -> Pairs:
    table = pq.read_table(path, columns=["image", "caption"])
    table = table.take(np.random.default_rng(seed).permutation(len(table))[:2500])
    ids = tuple(map(str, range(len(table))))
    images = decode_all(zip(ids, table["image"].to_pylist(), strict=True), len(ids), size=32)
    unknown = torch.full((len(ids),), -1)
    return Pairs(ids, images, tuple(table["caption"].to_pylist()), unknown, unknown > 0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
