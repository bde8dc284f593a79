"""Pairs on disk: the Parquet schema of every split and every overlay."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP, Groups, footers_of
from clipmend.errors import ArtifactError

SPLITS = ("train", "trusted", "val", "test")

PAIRS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("label", pa.string()),
    ]
)
MANIFEST = pa.schema([field for field in PAIRS if field.name != "image"])
OVERLAY = pa.schema(
    [
        *PAIRS,
        pa.field("original_caption", pa.string(), nullable=False),
        pa.field("is_poisoned", pa.bool_(), nullable=False),
    ]
)


def table_of(columns: Mapping[str, Sequence[Any]], schema: pa.Schema = PAIRS) -> pa.Table:
    """Return the columns as a table of the given schema."""
    return pa.table(dict(columns), schema=schema)


def write_pairs(table: pa.Table, path: Path) -> None:
    """Write pairs; the same rows always give the same bytes."""
    # No statistics and a fixed group size: the same rows give the same bytes.
    pq.write_table(table, path, compression="zstd", write_statistics=False, row_group_size=GROUP)


def read_pairs(path: Path, schema: pa.Schema = PAIRS) -> pa.Table:
    """Return the pairs in ``path``, in manifest order.

    Raises:
        ArtifactError: the file is missing, or has another schema.
    """
    _opened(path, MANIFEST)
    parts = [_opened(file, schema).read(schema.names) for file in footers_of(path)]
    return pa.concat_tables(parts).cast(schema)


def read_manifest(path: Path) -> pa.Table:
    """Return the pairs in ``path`` without their images.

    Raises:
        ArtifactError: as ``read_pairs``.
    """
    return _opened(path, MANIFEST).read(MANIFEST.names).cast(MANIFEST)


def count_pairs(path: Path) -> int:
    """Return the number of pairs in ``path``.

    Raises:
        ArtifactError: as ``read_pairs``.
    """
    return int(_opened(path, MANIFEST).metadata.num_rows)


def read_rows(path: Path, rows: Sequence[int]) -> pa.Table:
    """Return the pairs at ascending rows, reading only the row groups that hold them.

    Raises:
        ArtifactError: as ``read_pairs``, or the file has fewer rows.
    """
    count = count_pairs(path)
    if rows and not 0 <= rows[0] <= rows[-1] < count:
        raise ArtifactError(f"{path} has {count} rows; row {rows[-1]} does not exist.")
    groups, numbers = Groups(path), np.array(rows, np.int64)
    owner = groups.of(numbers)
    parts = [PAIRS.empty_table()]
    for group in np.unique(owner).tolist():
        local = numbers[owner == group] - groups.firsts[group]
        parts.append(groups.read(group, PAIRS.names).take(local).cast(PAIRS))
    return pa.concat_tables(parts)


def _opened(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    if not path.is_file():
        raise ArtifactError(f"{path} cannot be read as pairs: the file does not exist.")
    file = pq.ParquetFile(path)
    columns = file.schema_arrow.names
    if missing := set(schema.names) - set(columns):
        raise ArtifactError(
            f"{path} cannot be read as pairs: it lacks {sorted(missing)}; it has {columns}."
        )
    return file
