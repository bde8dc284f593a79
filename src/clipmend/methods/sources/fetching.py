"""Downloads the images of many rows in shards, which a later run does not download again.

A shard is a parquet file of ``OUTCOMES``. It appears complete or not at all: an interruption costs
the shards in progress, and no others. Processes share the shards, since decoding keeps a core busy.
"""

import asyncio
import hashlib
import heapq
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP
from clipmend.data.workers import cores, end_with
from clipmend.errors import DownloadError
from clipmend.methods.sources.image_bytes import NoImageError, stored_bytes
from clipmend.methods.sources.web import RECOVERABLE, UNREACHED, CheckedTransport, Limits, visit

_CONNECTIONS = 64  # of each process
_PATIENCE = 100  # addresses of a shard without any answer, after which a shard is given up
_ADVICE = "Check the network and run again; failures of the connection are requested again."
PASSES = ("pass1", "pass2")
"""The second pass requests again the rows whose failure in the first pass may recover."""

OUTCOMES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("error", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("hops", pa.list_(pa.string()), nullable=False),
        pa.field("image", pa.binary()),
    ]
)
"""A row per address: an image, or a reason and its detail. ``sha256`` and ``size`` (bytes) are of
the answer, before the image was reduced; ``hops`` are the addresses that redirects led to."""

_WITHOUT_IMAGE = pa.schema([field for field in OUTCOMES if field.name != "image"])


def fetch(
    rows: Mapping[str, pa.Table],
    limits: Limits,
    stored_size: int | None,
    work: Path,
    shard_rows: int,
) -> None:
    """Download the rows (``id``, ``url``) of each split into ``work/<split>``.

    Shards that exist are kept, but failures of the connection are requested again: a run without
    a network must not decide what is in the corpus. ``stored_size`` is the short side, in pixels,
    to which larger images are reduced; None keeps all bytes.

    Raises:
        DownloadError: no address was reached, or a process died.
        OSError: a file could not be written.
    """
    _forget_unreached([work / split / PASSES[1] for split in rows])
    # Processes, because decoding and reducing images keeps all cores busy, not the connections.
    pool = ProcessPoolExecutor(cores(), get_context("fork"), end_with, (os.getpid(),))
    try:
        for number, name in enumerate(PASSES):
            shards: list[tuple[Path, list[str], list[str]]] = []
            for split, table in rows.items():
                if number > 0:
                    # The shards of pass 1 are complete now, so a resumed run selects the same rows.
                    first = _without_images(work / split / PASSES[0]).to_pylist()
                    failed = [row["id"] for row in first if row["reason"] in RECOVERABLE]
                    ids = pa.array(failed, pa.string())
                    table = table.filter(pc.is_in(table["id"], value_set=ids))
                shards += _shards(table, work / split / name, shard_rows)
            missing = [shard for shard in shards if not shard[0].exists()]
            # In the second pass it is usual that no address answers.
            patience = _PATIENCE if number == 0 else None
            running = [
                pool.submit(fetch_shard, *shard, limits, stored_size, patience) for shard in missing
            ]
            for count, done in enumerate(as_completed(running), len(shards) - len(missing) + 1):
                done.result()
                sys.stderr.write(f"{name}: {count} of {len(shards)} shards are downloaded\n")
            if number == 0:
                _refuse_unreached([work / split / name for split in rows])
    except BrokenProcessPool as error:
        raise DownloadError(
            "A download process was ended from outside, perhaps for lack of memory. The download "
            f"so far is kept in {work}; run again to continue, with a smaller shard_rows if "
            "memory was short."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def outcomes(folder: Path) -> pa.Table:
    """Return ``OUTCOMES`` of a split without images, the last pass of each row, ids ascending."""
    first, second = (_without_images(folder / name) for name in PASSES)
    kept = first.filter(pc.invert(pc.is_in(first["id"], value_set=second["id"])))
    return pa.concat_tables([kept, second]).sort_by("id")


def images(folder: Path, ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (id, image) of a split's rows that are among ``ids``, ids ascending."""

    def rows(name: str) -> Iterator[tuple[str, bytes | None]]:
        for file in sorted((folder / name).glob("*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(GROUP, columns=["id", "image"]):
                yield from zip(*(part.to_pylist() for part in batch.columns), strict=True)

    for row_id, image in heapq.merge(*map(rows, PASSES), key=lambda row: row[0]):
        if image is not None and row_id in ids:
            yield row_id, image


def fetch_shard(
    path: Path,
    ids: Sequence[str],
    urls: Sequence[str],
    limits: Limits,
    stored_size: int | None,
    patience: int | None = None,
) -> None:
    """Download rows into the file ``path``. An address that occurs twice is requested once.

    Args:
        patience: number of addresses after which to give up if none was reached; None: never.

    Raises:
        DownloadError: no address was reached; the file is not written then.
        OSError: the file could not be written.
    """
    single = list(dict.fromkeys(urls))
    fetched = asyncio.run(_fetch_all(single, limits, stored_size, patience))
    answers = dict(zip(single, fetched, strict=True))
    rows = [{"id": row_id, **answers[url]} for row_id, url in zip(ids, urls, strict=True)]
    table = pa.Table.from_pylist(rows, schema=OUTCOMES)
    # The process of a run that was killed may live on for a second: each has a file of its own.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    pq.write_table(table, partial, row_group_size=GROUP, compression="none")
    partial.replace(path)


async def _fetch_all(
    urls: Sequence[str], limits: Limits, stored_size: int | None, patience: int | None
) -> list[dict[str, Any]]:
    """Return the columns of ``OUTCOMES`` but ``id`` for each address."""
    unreached, is_reached = 0, False
    # Name servers of dead hosts answer after long waits, and each wait holds a thread.
    threads = ThreadPoolExecutor(2 * _CONNECTIONS)
    asyncio.get_running_loop().set_default_executor(threads)
    free = asyncio.Semaphore(_CONNECTIONS)
    async with CheckedTransport(limits) as transport:

        async def fetch_one(url: str) -> dict[str, Any]:
            nonlocal unreached, is_reached
            async with free:
                answer = await visit(transport, url)
                failure, body, image = answer.failure, answer.body, None
                is_unreached = failure is not None and failure.reason in UNREACHED
                unreached += is_unreached
                is_reached |= not is_unreached
                if patience is not None and unreached >= patience and not is_reached:
                    raise DownloadError(
                        f"None of {unreached} addresses was reached (the last: {failure}). "
                        f"{_ADVICE}"
                    )
                try:
                    if body is not None:
                        image = await asyncio.to_thread(stored_bytes, body, stored_size)
                except NoImageError as error:
                    failure, body = error, None
            return {
                "reason": failure and failure.reason,
                "error": failure and failure.detail,
                "sha256": body and hashlib.sha256(body).hexdigest(),
                "size": body and len(body),
                "hops": answer.hops,
                "image": image,
            }

        return await asyncio.gather(*map(fetch_one, urls))


def _forget_unreached(folders: Sequence[Path]) -> None:
    """Remove the shards with failures of the connection, so that all are requested again."""
    for file in (file for folder in folders for file in folder.glob("*.parquet")):
        reasons = pq.ParquetFile(file).read(["reason"])["reason"].to_pylist()
        if not UNREACHED.isdisjoint(reasons):
            file.unlink()


def _refuse_unreached(folders: Sequence[Path]) -> None:
    """Refuse a first pass in which no address was reached, and remove its shards."""
    tables = [_without_images(folder) for folder in folders]
    rows = [row for table in tables for row in table.to_pylist()]
    if rows and all(row["reason"] in UNREACHED for row in rows):
        _forget_unreached(folders)
        last = f"{rows[-1]['reason']}: {rows[-1]['error']}"
        raise DownloadError(
            f"None of {len(rows)} addresses was reached (the last: {last}). {_ADVICE}"
        )


def _shards(rows: pa.Table, folder: Path, size: int) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield file, ids and addresses of the rows that are downloaded together."""
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob("*.partial"):  # left by a run that was killed
        partial.unlink(missing_ok=True)
    for number, start in enumerate(range(0, rows.num_rows, size)):
        part = rows.slice(start, size)
        path = folder / f"{number:05d}.parquet"
        yield path, part["id"].to_pylist(), part["url"].to_pylist()


def _without_images(folder: Path) -> pa.Table:
    tables = [_WITHOUT_IMAGE.empty_table()]
    for file in sorted(folder.glob("*.parquet")):
        tables.append(pq.ParquetFile(file).read(_WITHOUT_IMAGE.names).cast(_WITHOUT_IMAGE))
    return pa.concat_tables(tables)
