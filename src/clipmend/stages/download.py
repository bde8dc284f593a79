"""The stage ``download``: a source's splits, checked and written as pairs."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data.pairs import MANIFEST, PAIRS, SPLITS
from clipmend.data.row_groups import GROUP, shard
from clipmend.engine.job import Job
from clipmend.errors import FULL, DownloadError, PairsError
from clipmend.methods.table import create


@runtime_checkable
class Source(Protocol):
    """Where pairs come from. Its splits are disjoint in their ids."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that the zero-shot classifier distinguishes."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompt templates with one ``{}`` each."""

    @property
    def image_size(self) -> int:
        """Side of the square images in pixels."""

    def split(self, name: str) -> pa.Table | pa.RecordBatchReader:
        """Return one of ``SPLITS``, in the schema ``PAIRS``; a reader if it may be very large."""


@runtime_checkable
class Remote(Protocol):
    """A source that has to be fetched before it has splits."""

    def fetch(self, work: Path, out: Path) -> Source:
        """Return the pairs, fetched into ``work``, on from where a kill left it.

        What else there is to know of them is written into ``out``, beside the splits.
        """


def run(job: Job) -> None:
    """Write a corpus.

    Writes ``{train,trusted,val,test}.parquet`` (schema ``PAIRS``) and ``classes.json``
    (classes, prompts, image_size), and what a ``Remote`` source writes beside them. A split of
    more rows than ``rows_per_shard`` is written as its manifest and shards: see ``corpus.shards``.
    """
    per_shard: int | None = job.shared.get("rows_per_shard")
    made: Source | Remote = create("download", job.method, job.settings)
    with _full_disk_told(job):
        source = made.fetch(job.work, job.out) if isinstance(made, Remote) else made
        seen: set[str] = set()
        for name in SPLITS:
            ids = write_split(source.split(name), job.out / f"{name}.parquet", per_shard)
            if not ids:
                raise PairsError(
                    f"{job.cell}: the split {name!r} is empty; every split needs pairs."
                )
            if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
                raise PairsError(f"{job.cell}: ids in {name!r} are not unique across the splits.")
            seen.update(ids)
        stated = {
            "classes": list(source.classes),
            "prompts": list(source.prompts),
            "image_size": source.image_size,
        }
        (job.out / "classes.json").write_text(json.dumps(stated, indent=1) + "\n")


def write_split(
    split: pa.Table | pa.RecordBatchReader, path: Path, per_shard: int | None = None
) -> list[str]:
    """Write a split and return its ids; the same rows are the same bytes, however they came.

    Args:
        per_shard: rows of a shard, rounded up to whole groups; None: there are none.
    """
    tables = _even(split.to_reader() if isinstance(split, pa.Table) else split)
    each = None if per_shard is None else -(-per_shard // GROUP)
    parts = [MANIFEST.empty_table()]
    for number, first in enumerate(tables):
        rest = islice(tables, None if each is None else each - 1)
        parts.append(_write(chain([first], rest), path if each is None else shard(path, number)))
    manifest = pa.concat_tables(parts).combine_chunks()  # pages are cut where chunks are
    if len(parts) > 2:
        pq.write_table(manifest, path, compression="zstd", write_statistics=False)
    elif each is not None and manifest.num_rows:
        shard(path, 0).rename(path)
        shard(path, 0).parent.rmdir()
    ids: list[str] = manifest["id"].to_pylist()
    return ids


def _write(tables: Iterable[pa.Table], path: Path) -> pa.Table:
    """Write pairs into a file and return what a manifest says of them."""
    path.parent.mkdir(exist_ok=True)
    told = []
    options = {"compression": "zstd", "write_statistics": False}
    with pq.ParquetWriter(path, PAIRS, **options) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=GROUP)
            told.append(table.select(MANIFEST.names))
    return pa.concat_tables(told)


def _even(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Yield the rows in tables of one group, each in one chunk; the last one is shorter."""
    waiting = PAIRS.empty_table()
    for batch in reader:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], PAIRS)])
        while waiting.num_rows >= GROUP:
            yield waiting[:GROUP].combine_chunks()
            waiting = waiting[GROUP:]
    if waiting.num_rows:
        yield waiting.combine_chunks()


@contextmanager
def _full_disk_told(job: Job) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DownloadError(
            f"{job.cell}: the disk is full ({error.strerror}); what was made so far stays in "
            f"{job.work}: make room and run again to go on."
        ) from error
