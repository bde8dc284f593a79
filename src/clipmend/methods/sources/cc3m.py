"""The source ``cc3m``: pairs of Conceptual Captions 3M, from web addresses or from a mirror."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmend.data.pairs import PAIRS
from clipmend.errors import DownloadError
from clipmend.methods.settings import Count, Fraction, InputPath, Natural, OnBadRows, Positive
from clipmend.methods.sources import fetching, labeled_images
from clipmend.methods.sources.addresses import read_rows, sample_rows
from clipmend.methods.sources.bad_rows import FACTS, BadRows
from clipmend.methods.sources.hub import Mirror
from clipmend.methods.sources.interface import check_vocabulary
from clipmend.methods.sources.labeled_images import Labeled, Names, imagenet_names, imagenet_prompts
from clipmend.methods.sources.ledger import facts, ledger
from clipmend.methods.sources.mirror import (
    Taker,
    mirror_facts,
    named_class,
    take_all,
    with_shards,
)
from clipmend.methods.sources.web import Limits

_Fetched = tuple[dict[str, pa.Table], pa.Table, dict[str, Any]]  # sampled rows, ledger, facts
_BATCH = 1024  # pairs that are in memory together


@dataclass(frozen=True)
class CC3M:
    """Samples rows of CC3M (Sharma et al. 2018), downloads their images, and keeps a ledger.

    The rows come from the list of addresses (``path``) or from a mirror on a hub (``mirror``).
    Every address is requested once, and again where its failure may recover. Rows are sampled
    before anyone knows which addresses still answer, so that two users get comparable subsets. Of
    a mirror, shards are taken in a seeded order. ``test`` has labeled images of the user's own,
    such as ImageNet's, and so has ``val``, unless a mirror's validation split gives it.

    Attributes:
        test_path: folders named after classes, or a folder of webdataset shards.
        path: the TSV (caption, tab, URL, no header), a parquet file or a folder of parquet files.
        mirror: a data set of webdataset shards on a hub, such as ``pixparse/cc3m-wds``, in place
            of ``path``; ``HF_ENDPOINT`` names another hub than huggingface.co.
        mirror_revision: the commit of the mirror, 40 digits.
        val_path: as ``test_path`` for ``val``; null carves ``val`` images out of ``test_path``, or
            takes the pairs of a mirror's validation split whose captions name exactly one class.
        caption_column: the column of captions in a parquet file.
        url_column: the column of addresses in a parquet file.
        train: rows to sample for ``train``; only those with an image become pairs.
        trusted: rows to sample for ``trusted``; only those with an image become pairs.
        val: images to carve for ``val``, or the most to take of a mirror, if ``val_path`` is null.
        test: images to keep for ``test``, in a seeded order; null keeps all.
        classes: the class names; ``imagenet`` takes open_clip's names.
        prompts: templates with one ``{}`` each; ``imagenet`` takes CLIP's 80 templates.
        image_size: side of the square images that models see, in pixels.
        stored_size: short side to which larger images are reduced, in pixels; null keeps all
            bytes, which take ten times the disk.
        placeholder_urls: the same bytes from this many addresses are a placeholder, and removed.
        near_duplicates: captions that this many pairs share, apart from case, digits and
            punctuation, are reported.
        timeout: seconds for one step of a connection.
        max_seconds: seconds for one image, redirects included.
        max_bytes: bytes of one image.
        retries: further tries, at once, after a failure that may recover.
        private_networks: networks, such as ``10.1.0.0/16``, that are not public and may be
            contacted nevertheless.
        shard_rows: rows that are downloaded together; an interruption costs the shards in progress.
        on_bad_rows: `skip` leaves out images of ``val`` and ``test`` that cannot be decoded and
            lists them in ``bad_rows.json``; `refuse` refuses all. Web images have the ledger.
        max_bad_share: the largest share of such images that `skip` allows.
        seed: seed of the sampled rows. It is not the seed of a run: all seeds of a grid use the
            same pairs.
    """

    test_path: InputPath
    path: InputPath | None = None
    mirror: str | None = None
    mirror_revision: str | None = None
    val_path: InputPath | None = None
    caption_column: str = "caption"
    url_column: str = "image_url"
    train: Count = 500_000
    trusted: Count = 100_000
    val: Count = 5000
    test: Count | None = None
    classes: Literal["imagenet"] | tuple[str, ...] = "imagenet"
    prompts: Literal["imagenet"] | tuple[str, ...] = "imagenet"
    image_size: Count = 224
    stored_size: Count | None = 256
    placeholder_urls: Count = 10
    near_duplicates: Count = 10
    timeout: Positive = 10.0
    max_seconds: Positive = 60.0
    max_bytes: Count = 20_000_000
    retries: Natural = 1
    private_networks: tuple[str, ...] = ()
    shard_rows: Count = 5000
    on_bad_rows: OnBadRows = "skip"
    max_bad_share: Fraction = 0.25
    seed: int = 0

    def fetch(self, work: Path, out: Path) -> "FetchedPairs":
        """Download into ``work``, where an earlier try may have left shards, and return the pairs.

        Writes ``ledger.parquet`` (schema ``LEDGER``) and ``facts.json`` into ``out``.

        Raises:
            ClipmendError: a setting or an input file does not fit, before any request; or a
                download process died.
        """
        # All settings and inputs are checked before the first request: a download takes hours.
        networks = self.private_networks
        limits = Limits(self.timeout, self.max_seconds, self.max_bytes, self.retries, networks)
        own = self.classes
        names = imagenet_names() if own == "imagenet" else Names(own, own)
        prompts = imagenet_prompts() if self.prompts == "imagenet" else self.prompts
        check_vocabulary(names.classes, prompts)
        listed = self._listed()
        images = self._labeled(names)
        bad = BadRows(self.on_bad_rows, self.max_bad_share)
        for split in images:
            # The work folder belongs to these settings and input bytes: one check is enough.
            checked = work / f"{split}.checked"
            images[split] = labeled_images.usable(images[split], checked, bad)
        bad.check_policy()
        bad.check_share()
        if listed is None:
            sampled, table, statistics = self._from_mirror(work, names.classes)
        else:
            sampled, table, statistics = self._from_addresses(work, *listed, limits)
        pq.write_table(table, out / "ledger.parquet", compression="zstd", write_statistics=False)
        (out / FACTS).write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
        # Placeholders have an image, too: only the ledger tells which rows become pairs.
        live = table.filter(pc.equal(table["status"], "live"))
        vocabulary = (names.classes, prompts, self.image_size)
        return FetchedPairs(*vocabulary, work, sampled, live, images, bad)

    def _listed(self) -> tuple[int, dict[str, pa.Table]] | None:
        """Return the length of the list of addresses and its sampled rows; None for a mirror."""
        if self.path is not None and self.mirror is None:
            rows = read_rows(Path(self.path), self.caption_column, self.url_column)
            return rows.num_rows, sample_rows(rows, self.train, self.trusted, self.seed)
        if self.path is not None or self.mirror is None:
            raise DownloadError(
                "cc3m needs either path (the list of addresses) or mirror (a data set on a hub); "
                f"path is {self.path!r} and mirror is {self.mirror!r}."
            )
        return None

    def _from_addresses(
        self, work: Path, count: int, sampled: dict[str, pa.Table], limits: Limits
    ) -> _Fetched:
        """Download sampled rows of a list of ``count`` from their addresses."""
        requested = {}
        for split, table in sampled.items():
            trimmed = [pc.utf8_trim_whitespace(table[name]) for name in ("caption", "url")]
            has_both = pc.and_(*(pc.not_equal(text, "") for text in trimmed))
            requested[split] = table.filter(has_both).select(["id", "url"])
        fetching.fetch(requested, limits, self.stored_size, work, self.shard_rows)
        outcomes = {split: fetching.outcomes(work / split) for split in sampled}
        table = ledger(sampled, outcomes, self.placeholder_urls)
        return sampled, table, facts(count, table, sampled, self.near_duplicates)

    def _from_mirror(self, work: Path, classes: Sequence[str]) -> _Fetched:
        """Download shards of the mirror."""
        wanted = {"train": self.train, "trusted": self.trusted}
        if self.val_path is None:
            wanted["val"] = self.val
        mirror = Mirror.pinned(str(self.mirror), self.mirror_revision)
        taker = Taker(mirror, self.stored_size, work)
        sampled = take_all(taker, wanted, self.seed, named_class(classes))
        outcomes = {split: fetching.outcomes(work / split) for split in sampled}
        table = ledger(sampled, outcomes, self.placeholder_urls)
        statistics = facts(table.num_rows, table, sampled, self.near_duplicates)
        return sampled, with_shards(table, sampled), statistics | mirror_facts(mirror, sampled)

    def _labeled(self, names: Names) -> dict[str, Sequence[Labeled]]:
        """Return the images of ``val`` and ``test``; ``val`` is carved first."""
        find = labeled_images.find_images
        order = labeled_images.seeded(find(Path(self.test_path), names, "test"), self.seed)
        images = {}
        if self.val_path is not None:
            images["val"] = find(Path(self.val_path), names, "val")
        elif self.mirror is None:
            images["val"], order = order[: self.val], order[self.val :]
        if len(order) < (self.test or 1):
            raise DownloadError(
                f"{self.test_path} has too few images: {len(order)} are left for test, which needs "
                f"{self.test or 'at least 1'}; lower val or test, or set val_path."
            )
        images["test"] = order[: self.test]
        return {name: sorted(own, key=lambda image: image.name) for name, own in images.items()}


@dataclass(frozen=True)
class FetchedPairs:
    """The downloaded pairs; a split is read from the work folder on demand."""

    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    image_size: int
    work: Path
    sampled: Mapping[str, pa.Table]
    live: pa.Table
    images: Mapping[str, Sequence[Labeled]]
    bad_rows: BadRows

    def split(self, name: str) -> pa.RecordBatchReader:
        """Return a split as a reader, since it may be larger than memory."""
        if name in self.images:
            batches = labeled_images.batches(name, self.images[name])
        else:
            batches = self._downloaded(name)
        return pa.RecordBatchReader.from_batches(PAIRS, batches)

    def _downloaded(self, name: str) -> Iterator[pa.RecordBatch]:
        own = self.sampled[name].column_names
        texts = self.sampled[name].select([name for name in PAIRS.names if name in own])
        texts_of = {row["id"]: row for row in texts.to_pylist()}
        live = set(self.live.filter(pc.equal(self.live["split"], name))["id"].to_pylist())
        images = fetching.images(self.work / name, live)
        while part := list(islice(images, _BATCH)):
            rows = [{"image": image, **texts_of[row_id]} for row_id, image in part]
            yield from pa.Table.from_pylist(rows, PAIRS).to_batches()  # may exceed 2 GiB
