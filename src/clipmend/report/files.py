"""The files that the report reads, and the tables by which several reports are joined."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from clipmend.data.pairs import read_manifest, read_rows
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError
from clipmend.report.cells import KEY, VICTIM, row_order, typed_cells
from clipmend.report.detection import COLUMNS, MODEL_COLUMNS
from clipmend.report.input_detection import COLUMNS as INPUT_COLUMNS

CELLS, DETECTORS, INPUTS, CARDS = "cells.csv", "detectors.csv", "inputs.csv", "cards.jsonl"
TABLES = {
    CELLS: "cells",
    "table.csv": "means",
    "attacks.csv": "attacks",
    DETECTORS: "detectors",
    "model_scores.csv": "model_scores",
    INPUTS: "inputs_scored",
}
"""The files of the tables of numbers, and their properties of ``Results``."""

ATTACK_COLUMNS = (
    *("corpus", "attack", "trigger", "seed", "target", "text"),
    *("poisons", "poison_rate", "image_only", "text_only"),
    *("psnr", "ssim", "changed", "n_measured", "sha256"),
)
JOINED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    CELLS: (KEY, ()),
    "attacks.csv": (("corpus", "attack", "trigger", "seed"), ATTACK_COLUMNS),
    DETECTORS: ((*VICTIM, "stage", "method"), COLUMNS),
    "model_scores.csv": ((*VICTIM, "stage", "method"), MODEL_COLUMNS),
    INPUTS: ((*VICTIM, "trigger", "stage", "method"), INPUT_COLUMNS),
}
"""The tables of joined reports: the columns in which no two rows are equal, and all columns."""


def read_json(cell: Input, name: str) -> dict[str, Any]:
    """Return a JSON file of a cell."""
    stated: dict[str, Any] = json.loads((cell.folder / name).read_text(encoding="utf-8"))
    return stated


def read_frame(path: Path, *columns: str) -> pd.DataFrame:
    """Return a parquet file as a data frame, with all columns if none is named."""
    # One thread, since a job claims a single core.
    table = pq.read_table(path, columns=list(columns) or None, use_threads=False)
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame


def read_pairs_by_id(pairs: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the pairs with these ids, by id, without decoding the other row groups."""
    asked = set(ids)
    present = read_manifest(pairs)["id"].to_pylist()
    rows = [row for row, row_id in enumerate(present) if row_id in asked]
    return {row["id"]: row for row in read_rows(pairs, rows).to_pylist()}


def read_cards(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the cards in a report folder, by cell; its ``cards.jsonl`` may be compressed.

    Raises:
        ArtifactError: the folder lacks ``cells.csv`` or ``cards.jsonl``.
    """
    path, packed = folder / CARDS, folder / f"{CARDS}.gz"
    for file in (folder / CELLS, path):
        if not file.is_file() and not (file == path and packed.is_file()):
            raise ArtifactError(f"{file} is missing; a report folder has {CELLS} and {CARDS}.")
    data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    return {card["cell"]: card for card in map(json.loads, data.splitlines())}


def joined_tables(folders: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Return the tables of several report folders by file name; equal rows are kept once."""
    return {name: _joined(folders, name) for name in JOINED}


def _joined(folders: Sequence[Path], name: str) -> pd.DataFrame:
    files = [folder / name for folder in folders if (folder / name).is_file()]
    tables = [table for table in map(pd.read_csv, files) if len(table)]
    # A report of older code may lack a column; a table without rows has those of today's.
    unique, own = JOINED[name]
    columns = dict.fromkeys([*own, *(column for table in tables for column in table)])
    if not tables:
        return pd.DataFrame(columns=list(columns))
    table = pd.concat(tables, ignore_index=True).drop_duplicates(list(unique))
    table = table.reindex(columns=list(columns))
    if name == CELLS:
        # read_csv makes NaN of "", which stands for a method that needs nothing.
        table = table.assign(needs=table["needs"].fillna(""))
        rows: dict[Any, Any] = table.to_dict("index")
        table = typed_cells(table.loc[sorted(rows, key=lambda index: row_order(rows[index]))])
    if name == INPUTS:
        table = table.assign(trigger=table["trigger"].fillna(""))  # "" stands for no trigger
    if name == DETECTORS:
        table = table.astype({"budget": "Int64"})
    return table.reset_index(drop=True)
