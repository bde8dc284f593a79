"""The stage ``download``: writes the splits of a source as image-caption pairs."""

import json

from clipmend.data.artifacts import CLASSES
from clipmend.data.pairs import SPLITS
from clipmend.data.writer import write_split
from clipmend.engine.job import Job
from clipmend.errors import FULL, DownloadError, PairsError
from clipmend.methods.sources.interface import CheckedSource, RemoteSource, Source
from clipmend.methods.table import create


def run(job: Job) -> None:
    """Write a corpus.

    Writes ``{train,trusted,val,test}.parquet`` (schema ``PAIRS``), ``classes.json`` (classes,
    prompts and image size), the records of a ``RemoteSource``, and ``bad_rows.json`` if rows were
    left out. A split of more rows than ``rows_per_shard`` becomes a manifest and shards: see
    ``data.row_groups``.

    Raises:
        PairsError: a split is empty, or an id occurs twice.
        DownloadError: the disk is full.
    """
    source: Source | RemoteSource = create("download", job.method, job.settings)
    try:
        if isinstance(source, RemoteSource):
            source = source.fetch(job.work, job.out)
        _write(source, job)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # The work folder outlives the job, so that the next run continues in it.
        raise DownloadError(
            f"{job.cell}: the disk is full ({error.strerror}). The download so far is kept in "
            f"{job.work}; make room and run again to continue."
        ) from error


def _write(source: Source, job: Job) -> None:
    seen: set[str] = set()
    for name in SPLITS:
        path = job.out / f"{name}.parquet"
        ids = write_split(source.split(name), path, job.shared.get("rows_per_shard"))
        if not ids:
            raise PairsError(f"{job.cell}: the split {name!r} is empty; every split needs pairs.")
        if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
            raise PairsError(f"{job.cell}: ids in {name!r} are not unique across the splits.")
        seen.update(ids)
    vocabulary = {
        "classes": list(source.classes),
        "prompts": list(source.prompts),
        "image_size": source.image_size,
    }
    (job.out / CLASSES).write_text(json.dumps(vocabulary, indent=1) + "\n", encoding="utf-8")
    if isinstance(source, CheckedSource):
        source.bad_rows.write(job.out)
        source.bad_rows.report(job.cell)
