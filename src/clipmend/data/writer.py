"""Writes a split as one parquet file, or as a manifest and shards."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data.pairs import MANIFEST, PAIRS
from clipmend.data.row_groups import GROUP, shard


def write_split(
    split: pa.Table | pa.RecordBatchReader, path: Path, per_shard: int | None = None
) -> list[str]:
    """Write a split in the schema ``PAIRS`` and return its ids.

    The same rows give the same bytes, whatever the sizes of the batches that hold them.

    Args:
        per_shard: rows of a shard, rounded up to a multiple of ``GROUP``; None writes one
            file. A split that fits into one shard is also one file. See ``data.row_groups``.
    """
    groups = _groups(split.to_reader() if isinstance(split, pa.Table) else split)
    groups_per_shard = None if per_shard is None else -(-per_shard // GROUP)
    manifests = [MANIFEST.empty_table()]
    for number, first in enumerate(groups):
        rest = islice(groups, None if groups_per_shard is None else groups_per_shard - 1)
        file = path if groups_per_shard is None else shard(path, number)
        manifests.append(_write_file(chain([first], rest), file))
    # One chunk per column: parquet ends a page where a chunk ends, and bytes must not vary.
    manifest = pa.concat_tables(manifests).combine_chunks()
    if len(manifests) > 2:  # the empty manifest and at least two shards
        pq.write_table(manifest, path, compression="zstd", write_statistics=False)
    elif groups_per_shard is not None and manifest.num_rows:
        shard(path, 0).rename(path)
        shard(path, 0).parent.rmdir()
    ids: list[str] = manifest["id"].to_pylist()
    return ids


def _write_file(groups: Iterable[pa.Table], file: Path) -> pa.Table:
    """Write pairs into a file and return their manifest columns."""
    file.parent.mkdir(exist_ok=True)
    manifests = []
    with pq.ParquetWriter(file, PAIRS, compression="zstd", write_statistics=False) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=GROUP)
            manifests.append(group.select(MANIFEST.names))
    return pa.concat_tables(manifests)


def _groups(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Yield the rows in tables of ``GROUP`` rows and one chunk; the last table may be shorter."""
    pending = PAIRS.empty_table()
    for batch in reader:
        pending = pa.concat_tables([pending, pa.Table.from_batches([batch], PAIRS)])
        # A source chooses the sizes of its batches; row groups must not depend on them.
        while pending.num_rows >= GROUP:
            yield pending[:GROUP].combine_chunks()
            pending = pending[GROUP:]
    if pending.num_rows:
        yield pending.combine_chunks()
