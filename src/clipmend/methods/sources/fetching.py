"""Rows fetched by img2dataset, a shard at a time, in processes that keep to the rule of ``web``.

A shard is fetched whole or not at all: a kill costs the shards that were under way, and no others.
img2dataset's own entry point is not used: its processes would ask without our rule, and it lets a
row go where a file cannot be written.
"""

import heapq
import importlib.util
import os
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP
from clipmend.data.workers import cores
from clipmend.errors import DownloadError
from clipmend.methods.sources.web import Opener, Rule, Visit, may_recover

_CONNECTIONS = 64  # of each process
_TOKEN = "img2dataset"  # what the user agent names; a site may forbid it the use of its images
_DIRECTIVES = ["noai", "noimageai", "noindex", "noimageindex"]  # img2dataset's own default

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
"""What fetching a row gave: an image, or a reason and what was said of it."""


@dataclass(frozen=True)
class Way:
    """How rows are fetched.

    Attributes:
        rule: what may be asked of the web.
        retries: how often img2dataset asks again at once.
        stored_size: short side to which larger images are reduced; None keeps all bytes.
    """

    rule: Rule
    retries: int
    stored_size: int | None


@dataclass(frozen=True)
class Shard:
    """Rows that are fetched together into one file of ``OUTCOMES``, in the order of their ids."""

    path: Path
    ids: Sequence[str]
    urls: Sequence[str]


def refuse_without_img2dataset() -> None:
    """Refuse to go on where img2dataset is not installed.

    Raises:
        DownloadError: it is not.
    """
    if importlib.util.find_spec("img2dataset") is None:
        raise DownloadError(
            "The source 'cc3m' fetches with img2dataset, which is not installed; install it with "
            "`pip install -e '.[cc3m]'`."
        )


def fetch(rows: Mapping[str, pa.Table], way: Way, work: Path, shard_rows: int) -> None:
    """Fetch each part's rows (``id``, ``url``) into ``work/<part>``; what is there is not repeated.

    Asks for every row once, then once more for those whose failure may pass.

    Raises:
        DownloadError: a process died.
        OSError: a file could not be written.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the web at its import
    context = get_context("forkserver")
    context.set_forkserver_preload(["img2dataset.downloader", __name__])  # imported once for all
    pool = ProcessPoolExecutor(cores(), mp_context=context, initializer=_end_alone)
    try:
        for turn in (1, 2):
            shards: list[Shard] = []
            for part, table in rows.items():
                asked = table if turn == 1 else _again(table, work / part)
                shards += _shards(asked, work / part / f"pass{turn}", shard_rows)
            _fetch_shards(shards, way, pool, f"pass {turn} of 2")
    except BrokenProcessPool as error:
        raise DownloadError(
            "A process that fetches was ended from outside, perhaps for lack of memory; what is "
            f"fetched stays in {work}: run again to go on, with smaller shards (shard_rows)."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def outcomes(folder: Path) -> pa.Table:
    """Return the outcome of every row of a part, without images, in the order of the ids."""
    first, second = (_without_images(folder / f"pass{turn}") for turn in (1, 2))
    kept = first.filter(pc.invert(pc.is_in(first["id"], value_set=second["id"])))
    return pa.concat_tables([kept, second]).sort_by("id")


def images(folder: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (id, image) of a part's rows among ``wanted``, in the order of their ids."""
    passes = [_images(folder / f"pass{turn}") for turn in (1, 2)]
    for row_id, image in heapq.merge(*passes, key=lambda row: row[0]):
        if row_id in wanted:
            yield row_id, image


def _again(rows: pa.Table, folder: Path) -> pa.Table:
    """Return the rows whose failure in the first pass may pass."""
    first = _without_images(folder / "pass1")
    failed = [row["id"] for row in first.to_pylist() if may_recover(row["reason"] or "")]
    return rows.filter(pc.is_in(rows["id"], value_set=pa.array(failed, pa.string())))


def _shards(rows: pa.Table, folder: Path, size: int) -> Iterator[Shard]:
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    for number, start in enumerate(range(0, rows.num_rows, size)):
        part = rows.slice(start, size)
        path = folder / f"{number:05d}.parquet"
        yield Shard(path, part["id"].to_pylist(), part["url"].to_pylist())


def _fetch_shards(shards: Sequence[Shard], way: Way, pool: Executor, told: str) -> None:
    todo = [shard for shard in shards if not shard.path.exists()]
    running = [pool.submit(fetch_shard, shard, way) for shard in todo]
    for count, done in enumerate(as_completed(running), len(shards) - len(todo) + 1):
        done.result()
        sys.stderr.write(f"{told}: {count} of {len(shards)} shards are fetched\n")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _without_images(folder: Path) -> pa.Table:
    schema = pa.schema([field for field in OUTCOMES if field.name != "image"])
    read = [pq.ParquetFile(path).read(schema.names).cast(schema) for path in _files(folder)]
    return pa.concat_tables([schema.empty_table(), *read])


def _images(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in _files(folder):
        for batch in pq.ParquetFile(path).iter_batches(GROUP, columns=["id", "image"]):
            for row_id, image in zip(*(part.to_pylist() for part in batch.columns), strict=True):
                if image is not None:
                    yield row_id, image


# What runs in the processes


def _end_alone() -> None:
    """End this process when the one that started it has ended, however that came about."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def fetch_shard(shard: Shard, way: Way) -> None:
    """Fetch one shard into its file, which appears whole or not at all.

    Raises:
        OSError: a file could not be written.
        DownloadError: img2dataset lost a row.
    """
    opener = Opener(way.rule)
    folder = shard.path.parent / f".{shard.path.stem}.{os.getpid()}"
    folder.mkdir()
    urllib.request.install_opener(opener)  # img2dataset asks through urlopen
    try:
        _download(shard, way, folder)
        table = _outcomes(pq.ParquetFile(folder / "0.parquet").read(), opener.visits)
        if table["id"].to_pylist() != list(shard.ids):
            raise DownloadError(f"img2dataset lost rows of {shard.path}; run again.")
        pq.write_table(table, folder / "outcomes", row_group_size=GROUP, compression="none")
        (folder / "outcomes").replace(shard.path)
    finally:
        urllib.request.install_opener(None)
        shutil.rmtree(folder)


def _download(shard: Shard, way: Way, folder: Path) -> None:
    """Have img2dataset write ``0.parquet`` into a folder."""
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

    table = pa.table({"id": shard.ids, "url": shard.urls}).cast(
        pa.schema([("id", pa.string()), ("url", pa.string())])
    )
    with pa.ipc.new_file(folder / "rows.feather", table.schema) as file:
        file.write_table(table)
    faults: list[OSError] = []
    downloader = Downloader(
        sample_writer_class=lambda *arguments: _writer(faults, *arguments),
        resizer=Resizer(
            image_size=way.stored_size or 0,
            resize_mode="no" if way.stored_size is None else "keep_ratio",
            resize_only_if_bigger=True,
            encode_quality=95,
            skip_reencode=True,
            disable_all_reencoding=way.stored_size is None,
        ),
        thread_count=_CONNECTIONS,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["id", "url"],
        timeout=way.rule.timeout,
        number_sample_per_shard=max(2, len(shard.ids)),
        oom_shard_count=1,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=way.retries,
        user_agent_token=_TOKEN,
        disallowed_header_directives=_DIRECTIVES,
    )
    try:
        downloader.download_shard((0, str(folder / "rows.feather")))
    finally:
        if faults:
            raise faults[0]


def _writer(faults: list[OSError], *arguments: Any) -> Any:
    """Return img2dataset's writer of parquet, which notes an error that img2dataset would drop."""
    from img2dataset.writer import ParquetSampleWriter

    class Noting(ParquetSampleWriter):  # type: ignore[misc]
        def write(self, *sample: Any) -> None:
            try:
                super().write(*sample)
            except OSError as error:
                faults.append(error)
                raise

    return Noting(*arguments)


def _outcomes(written: pa.Table, visits: Mapping[str, Visit]) -> pa.Table:
    """Return what img2dataset wrote, with what the opener noted, in the order of the ids."""
    rows: list[dict[str, Any]] = []
    for row in written.to_pylist():
        visit = visits.get(row["url"], Visit())
        reason, error = _reason(row["status"], row["error_message"])
        is_live = reason is None
        rows.append(
            {
                "id": row["id"],
                "reason": reason,
                "error": error,
                "sha256": row["sha256"] if is_live else None,
                "size": visit.size if is_live else None,
                "hops": visit.hops,
                "image": row["jpg"] if is_live else None,
            }
        )
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["id"])), schema=OUTCOMES)


def _reason(status: str, told: str | None) -> tuple[str | None, str | None]:
    """Return a failure's name and its text, both None for an image."""
    if status == "success":
        return None, None
    if status == "failed_to_resize":
        return "undecodable", f"img2dataset: {told}"
    if told is not None and "X-Robots-Tag" in told:
        return "opted_out", told
    reason, _, error = (told or "").partition(": ")
    return (reason, error) if error and " " not in reason else ("other", told)
