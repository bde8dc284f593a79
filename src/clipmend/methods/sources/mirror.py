"""Takes pairs from the shards of a mirror, shard by shard, and keeps them for a later run.

A shard becomes a parquet file of ``MIRRORED``, whose images are reduced; then its tar file is
removed. An interruption costs the shard in progress.
"""

import hashlib
import logging
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP
from clipmend.data.sampling import seeded_order
from clipmend.data.workers import cores
from clipmend.errors import DownloadError
from clipmend.methods.sources.fetching import OUTCOMES, PASSES
from clipmend.methods.sources.hub import Mirror, Shard
from clipmend.methods.sources.image_bytes import NoImageError, stored_bytes
from clipmend.methods.sources.records import Columns, Record, numbered_records

log = logging.getLogger(__name__)

_OWN = ("caption", "label", "url", "shard", "shard_sha256")
MIRRORED = pa.schema([*OUTCOMES, *(pa.field(name, pa.string()) for name in _OWN)])
"""``OUTCOMES`` with the caption, the label (of ``val``), the address of the sample (shard and key),
and the shard with its checksum."""

_COLUMNS = Columns("id", "image", "caption", None)
Label = Callable[[str], str | None]


@dataclass(frozen=True)
class Taker:
    """Takes rows from the shards of a mirror into ``work``.

    Attributes:
        stored_size: the short side to which larger images are reduced, in pixels; None: not.
    """

    mirror: Mirror
    stored_size: int | None
    work: Path

    def take(
        self, split: str, shards: Iterable[Shard], count: int, label: Label | None = None
    ) -> tuple[pa.Table, list[Shard]]:
        """Return the first ``count`` rows of the shards without images, and the shards used.

        Args:
            label: gives the class that a caption names; rows without one are not taken.

        Raises:
            DownloadError: a shard cannot be downloaded or read.
        """
        folder = self.work / split / PASSES[0]
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.partial"):  # by a run that was killed
            left.unlink()
        parts, used, rows = [pa.Table.from_batches([], MIRRORED).drop_columns("image")], [], 0
        for shard in shards:
            if rows == count:
                break
            path = folder / f"{shard.path.removesuffix('.tar').replace('/', '-')}.parquet"
            if not path.exists():
                self._store(shard, path, count - rows, label)
                sys.stderr.write(f"{split}: {shard.path} is downloaded\n")
            parts.append(pq.ParquetFile(path).read(parts[0].schema.names).cast(parts[0].schema))
            rows += parts[-1].num_rows
            used.append(shard)
        return pa.concat_tables(parts).sort_by("id"), used

    def _store(self, shard: Shard, path: Path, count: int, label: Label | None) -> None:
        """Download a shard and write at most ``count`` rows of it to ``path``."""
        file, digest = self.mirror.download(shard, self.work / "hub")
        own = {"shard": shard.path, "shard_sha256": digest}
        try:
            blocks = list(numbered_records(file, _COLUMNS, (), lambda *_: None))
        except (tarfile.TarError, OSError) as error:
            raise DownloadError(
                f"{shard.path} of {self.mirror} cannot be read as a webdataset shard: {error}. It "
                "is as the hub announces it; another revision may have it undamaged."
            ) from error
        taken: list[tuple[Record, dict[str, Any]]] = []
        for record in (record for block in blocks for _, record in block):
            columns = own | _texts(record, label)
            if len(taken) < count and (label is None or columns["label"] is not None):
                taken.append((record, columns))
        # Threads are enough: Pillow decodes and resizes without the lock of the interpreter.
        with ThreadPoolExecutor(cores()) as pool:
            rows = list(pool.map(partial(_row, shard, self.stored_size), taken))
        rows.sort(key=lambda row: row["id"])
        table = pa.Table.from_pylist(rows, schema=MIRRORED)
        partly = path.with_suffix(f".{os.getpid()}.partial")
        pq.write_table(table, partly, row_group_size=GROUP, compression="none")
        partly.replace(path)
        file.unlink()


def take_all(
    taker: Taker, wanted: dict[str, int], seed: int, label: Label | None
) -> dict[str, pa.Table]:
    """Return the rows of ``train``, ``trusted`` and, where ``wanted`` names it, of ``val``.

    Shards are taken whole, in a seeded order of their paths: ``train`` from its front, ``trusted``
    from its end. So more pairs in one split leave the other unchanged.

    Raises:
        DownloadError: the mirror has too few pairs, or no validation split.
    """
    splits = taker.mirror.shards(taker.work)
    if "train" not in splits or ("val" in wanted and "val" not in splits):
        raise DownloadError(
            f"{taker.mirror} has no shards of {'val' if 'train' in splits else 'train'}, only of "
            f"{', '.join(splits)}. Labeled images can be given as val_path."
        )
    order = _ordered(splits["train"], seed)
    trusted, used = taker.take("trusted", reversed(order), wanted["trusted"])
    rest = [shard for shard in order if shard not in used]
    train, _ = taker.take("train", rest, wanted["train"])
    taken = {"train": train, "trusted": trusted}
    for name, table in taken.items():
        if table.num_rows < wanted[name]:
            raise DownloadError(
                f"{taker.mirror} has too few pairs: {table.num_rows} of {wanted[name]} for {name}. "
                f"A shard is of one split, and there are {len(order)}; lower train or trusted."
            )
    if "val" in wanted:
        taken["val"], _ = taker.take("val", _ordered(splits["val"], seed), wanted["val"], label)
        found = taken["val"].num_rows
        if found == 0:
            raise DownloadError(
                f"No caption of the validation split of {taker.mirror} names exactly one class; "
                "give labeled images as val_path."
            )
        if found < wanted["val"]:
            log.warning("val: %d captions name one class, of %d wanted", found, wanted["val"])
    return taken


def named_class(classes: Sequence[str]) -> Label:
    """Return a function that gives the class that a caption names, if it names exactly one.

    Names are compared in lower case, as whole words, with or without an ``s`` at the end.
    """
    of = {name.lower(): name for name in classes}
    # The longest first: "tiger shark" does not name a tiger.
    names = "|".join(map(re.escape, sorted(of, key=len, reverse=True)))
    pattern = re.compile(rf"\b({names})s?\b")

    def name_in(caption: str) -> str | None:
        found = {of[name] for name in pattern.findall(caption.lower())}
        return found.pop() if len(found) == 1 else None

    return name_in


def with_shards(ledger: pa.Table, sampled: Mapping[str, pa.Table]) -> pa.Table:
    """Return the ledger with the shard of each row, and the SHA-256 of the shard."""
    own = pa.concat_tables(table.select(["shard", "shard_sha256"]) for table in sampled.values())
    for name in own.column_names:
        ledger = ledger.append_column(name, own[name])
    return ledger


def mirror_facts(mirror: Mirror, sampled: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Return what the facts say of a mirror in place of a list of addresses."""
    count = sum(table.num_rows for table in sampled.values())
    shards = {
        row["shard"] for table in sampled.values() for row in table.select(["shard"]).to_pylist()
    }
    return {
        "rows": {
            "definition": "rows that were taken from the shards of the mirror",
            "count": count,
        },
        "mirror": {
            "definition": "data set and commit; the ledger has the SHA-256 of each shard",
            "repository": mirror.repository,
            "revision": mirror.revision,
            "shards": sorted(shards),
        },
    }


def _ordered(shards: Sequence[Shard], seed: int) -> list[Shard]:
    by_path = {shard.path: shard for shard in shards}
    return [by_path[path] for path in seeded_order(by_path, seed, "cc3m/shards")]


def _texts(record: Record, label: Label | None) -> dict[str, Any]:
    """Return caption and label of a sample; a caption that is empty or not UTF-8 is None."""
    caption = record["caption"]
    if isinstance(caption, bytes):
        try:
            caption = caption.decode()
        except UnicodeDecodeError:
            caption = None
    text = caption.strip() if isinstance(caption, str) else ""
    return {"caption": text or None, "label": label(text) if label else None}


def _row(
    shard: Shard, stored_size: int | None, taken: tuple[Record, dict[str, Any]]
) -> dict[str, Any]:
    """Return the columns of ``MIRRORED``; an image that cannot be used gives the reason."""
    record, own = taken
    row = own | {
        "id": f"{shard.path.removesuffix('.tar')}/{record['id']}",
        "url": f"{shard.path}#{record['id']}",
        "hops": [],
    }
    try:
        if own["caption"] is None:
            raise NoImageError("no_caption", "the sample has no caption in UTF-8")
        if record["image"] is None:
            raise NoImageError("no_image", "the sample has no image")
        data = record["image"].read()
        row |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return row | {"image": stored_bytes(data, stored_size)}
    except NoImageError as error:
        return row | {"reason": error.reason, "error": error.detail}
