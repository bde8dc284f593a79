"""The source ``cc3m``: pairs of Conceptual Captions 3M, fetched by their addresses."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipmend.data.pairs import PAIRS, table_of
from clipmend.errors import DownloadError
from clipmend.methods.settings import Count, InputPath, Natural, Positive
from clipmend.methods.sources import fetching, labeled
from clipmend.methods.sources.imagenet import imagenet_names, imagenet_prompts
from clipmend.methods.sources.labeled import Labeled, Names
from clipmend.methods.sources.ledger import facts, ledger
from clipmend.methods.sources.rows import draw, read_rows
from clipmend.methods.sources.web import Limits

_BATCH = 1024  # pairs that are in memory together


@dataclass(frozen=True)
class CC3M:
    """Draws rows of CC3M (Sharma et al. 2018), fetches their images, and keeps a ledger.

    Every row is asked for once, and once more where its failure may pass. Rows are drawn before
    anybody knows which of them live, so that two users with different live sets get comparable
    subsets. ``val`` and ``test`` are labeled images of the user's own, such as ImageNet's.

    Attributes:
        path: the TSV (caption, tab, URL, no header), a parquet file or a folder of these.
        test_path: folders named after classes, or a folder of webdataset shards.
        val_path: the same for ``val``; null carves ``val`` images out of ``test_path``.
        train, trusted: rows drawn; what lives of them is the effective subset.
        test: images to keep, in a seeded order; null keeps all.
        classes, prompts: ``imagenet`` stands for open_clip's names and its 80 templates.
        image_size: side of the square images that models see, in pixels.
        stored_size: short side to which larger images are reduced when fetched, in pixels; null
            keeps all bytes as they came, ten times as many.
        placeholder_urls: the same bytes at this many addresses are a placeholder, and removed.
        near_duplicates: captions that this many pairs share, nearly, are reported.
        timeout: seconds that one step of a connection may take.
        max_seconds: seconds that one image may take, redirects included.
        max_bytes: bytes that an image may have.
        retries: how often img2dataset asks again at once.
        private_networks: networks that may be asked though they are not public.
        shard_rows: rows that are fetched together; a kill costs those that were under way.
        seed: draws the rows. It is no run's seed: every seed of a grid sees the same pairs.
    """

    path: InputPath
    test_path: InputPath
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
    seed: int = 0

    def fetch(self, work: Path, out: Path) -> "Fetched":
        """Fetch into ``work``, on from where a kill left it, and return the pairs.

        Writes ``ledger.parquet`` (schema ``LEDGER``) and ``facts.json`` into ``out``.

        Raises:
            ClipmendError: something does not fit; found before anything is asked of the web.
        """
        limits = self._limits()
        names, prompts = self._names(), self._prompts()
        images = self._labeled(names)
        rows = read_rows(Path(self.path), self.caption_column, self.url_column)
        drawn = draw(rows, self.train, self.trusted, self.seed)
        for split, given in images.items():
            _check_once(given, work / f"{split}.checked")
        asked = {split: _askable(table) for split, table in drawn.items()}
        fetching.fetch(asked, limits, self.stored_size, work, self.shard_rows)
        table = ledger(
            drawn,
            {split: fetching.outcomes(work / split) for split in drawn},
            self.placeholder_urls,
        )
        pq.write_table(table, out / "ledger.parquet", compression="zstd", write_statistics=False)
        told = facts(rows.num_rows, table, drawn, self.near_duplicates)
        (out / "facts.json").write_text(json.dumps(told, indent=1) + "\n")
        live = table.filter(pc.equal(table["status"], "live"))
        return Fetched(names.classes, prompts, self.image_size, work, drawn, live, images)

    def _limits(self) -> Limits:
        for network in self.private_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise DownloadError(
                    f"private_networks: {error}; allowed are networks such as 10.1.0.0/16."
                ) from error
        return Limits(
            self.timeout, self.max_seconds, self.max_bytes, self.retries, self.private_networks
        )

    def _names(self) -> Names:
        if self.classes == "imagenet":
            return imagenet_names()
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise DownloadError(f"classes must be two or more different names, not {self.classes}.")
        return Names(tuple(self.classes), tuple(self.classes), {})

    def _prompts(self) -> tuple[str, ...]:
        if self.prompts == "imagenet":
            return imagenet_prompts()
        if not self.prompts or any(prompt.count("{}") != 1 for prompt in self.prompts):
            raise DownloadError(
                f"prompts must be templates with one {{}} where the class name goes, not "
                f"{self.prompts}."
            )
        return tuple(self.prompts)

    def _labeled(self, names: Names) -> dict[str, Sequence[Labeled]]:
        """Return the images of ``val`` and ``test``; ``val`` is carved first."""
        order = labeled.seeded(labeled.find_images(Path(self.test_path), names), self.seed)
        if self.val_path is not None:
            val = labeled.find_images(Path(self.val_path), names)
        else:
            val, order = order[: self.val], order[self.val :]
        if len(order) < (self.test or 1):
            raise DownloadError(
                f"{self.test_path} has too few images: {len(order)} are left for test, of which "
                f"{self.test or 'one'} must be; lower val or test, or set val_path."
            )
        return {
            name: sorted(images, key=lambda image: image.name)
            for name, images in (("val", val), ("test", order[: self.test]))
        }


@dataclass(frozen=True)
class Fetched:
    """The pairs once they are fetched; each split is read when it is asked for."""

    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    image_size: int
    work: Path
    drawn: Mapping[str, pa.Table]
    live: pa.Table
    images: Mapping[str, Sequence[Labeled]]

    def split(self, name: str) -> pa.RecordBatchReader:
        """Return a split as a reader, since it may be larger than memory."""
        given = self.images.get(name)
        batches = self._fetched(name) if given is None else labeled.batches(name, given)
        return pa.RecordBatchReader.from_batches(PAIRS, batches)

    def _fetched(self, name: str) -> Iterator[pa.RecordBatch]:
        rows = self.drawn[name]
        captions = dict(zip(rows["id"].to_pylist(), rows["caption"].to_pylist(), strict=True))
        wanted = set(self.live.filter(pc.equal(self.live["split"], name))["id"].to_pylist())
        found = fetching.images(self.work / name, wanted)
        while part := list(islice(found, _BATCH)):
            table = table_of(
                {
                    "id": [row_id for row_id, _ in part],
                    "image": [image for _, image in part],
                    "caption": [captions[row_id] for row_id, _ in part],
                    "label": [None] * len(part),
                }
            )
            yield from table.combine_chunks().to_batches()


def _askable(rows: pa.Table) -> pa.Table:
    """Return the rows that have a caption and an address."""
    has_both = [
        pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(rows[name]), ""), False)
        for name in ("caption", "url")
    ]
    return rows.filter(pc.and_(*has_both)).select(["id", "url"])


def _check_once(images: Sequence[Labeled], mark: Path) -> None:
    """Decode all images, unless an earlier try with the same settings did."""
    if not mark.exists():
        labeled.refuse_undecodable(images)
        mark.touch()
