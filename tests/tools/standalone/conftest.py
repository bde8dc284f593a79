"""Pairs of somebody who knows no poison."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.data.pairs import read_pairs
from clipmend.engine.job import Input


@pytest.fixture(scope="session")
def pairs(corpus: Input, poison: Input, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's poisoned training pairs, without labels or marks."""
    changed = {row["id"]: row for row in read_pairs(poison.folder / "overlay.parquet").to_pylist()}
    rows = read_pairs(corpus.folder / "train.parquet").to_pylist()
    rows = [changed.get(row["id"], row) for row in rows]
    path = tmp_path_factory.mktemp("own") / "pairs.parquet"
    columns = ("id", "image", "caption")
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), path)
    return path
