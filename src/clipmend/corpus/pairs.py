"""Pairs on disk: the parquet schema that every split and every overlay has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
    """Write pairs, the same rows as the same bytes."""
    pq.write_table(table, path, compression="zstd", write_statistics=False)


def read_pairs(path: Path, schema: pa.Schema = PAIRS) -> pa.Table:
    """Return the pairs in ``path``, in manifest order.

    Raises:
        ArtifactError: the file is absent, or does not have the schema.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} cannot be read as pairs: there is no such file.")
    table = pq.read_table(path)
    if missing := set(schema.names) - set(table.column_names):
        raise ArtifactError(
            f"{path} cannot be read as pairs: it lacks {sorted(missing)}; "
            f"it has {table.column_names}."
        )
    return table.select(schema.names).cast(schema)
