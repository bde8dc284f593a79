"""The pairs of the user, read file by file, and decoded for the model if they fit into memory."""

import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.data import artifacts
from clipmend.data.images import decode_all
from clipmend.data.pairs import PAIRS
from clipmend.data.row_groups import Encoded
from clipmend.data.splits import Pairs
from clipmend.data.streaming import EncodedImages, Images, fits
from clipmend.data.writer import write_split
from clipmend.engine.folders import SHARD
from clipmend.errors import PairsError
from clipmend.methods.sources.bad_rows import BadRows
from clipmend.methods.sources.records import Columns, names_in
from clipmend.methods.sources.user_files import Files, files_in, files_of_split, splits_in
from clipmend.tools.standalone.options import Options

log = logging.getLogger(__name__)
LEAST = {"train": 64, "trusted": 2}
"""Pairs of each kind. Among fewer, an unusual pair does not stand out; a batch has at least two."""


@dataclass(frozen=True, eq=False)
class OwnPairs:
    """Checked pairs of the user, without labels.

    Attributes:
        files: the files that hold them, each with its rows in order.
        decoded: the images in the size of the model; None: they are too many for memory.
        size: side of the images, in pixels.
        bad: the rows that cannot be used.
        digest: the SHA-256 of all ids, captions and encoded images.
    """

    files: tuple[Files, ...]
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    decoded: UInt8[Tensor, "_ 3 height width"] | None
    size: int
    bad: BadRows
    digest: str

    def pairs(self, folder: Path) -> Pairs:
        """Return the pairs; images that are too many for memory are copied into ``folder``.

        They stay encoded there, in groups of few rows, and are decoded on demand.
        """
        images: Images | None = self.decoded
        if images is None:
            path, ids = folder / artifacts.TRAIN, frozenset(self.ids)
            log.info("%d images do not fit into memory; they are copied to %s", len(ids), path)
            batches = chain.from_iterable(files.read(ids) for files in self.files)
            write_split(pa.RecordBatchReader.from_batches(PAIRS, batches), path)
            none = pa.chunked_array([], pa.binary())
            images = EncodedImages(Encoded(path, self.ids, {}, none), self.size)
        return Pairs(
            ids=self.ids,
            images=images,
            captions=self.captions,
            # -1 and False are the values of pairs whose truth is unknown.
            label=torch.full((len(self.ids),), -1),
            is_poisoned=torch.zeros(len(self.ids), dtype=torch.bool),
        )


def read_own_pairs(options: Options, split: str = "train", *, size: int) -> OwnPairs:
    """Return the pairs of ``--pairs``, or of ``--trusted``, with images cropped to ``size``.

    If the files of a folder are named after splits, only those of ``split`` are read. Files are
    read a block of rows at a time. Decoded images are kept while all of them fit into memory,
    ``3 * size**2`` bytes each (see ``data.streaming``).

    Args:
        split: ``train`` or ``trusted``.

    Raises:
        PairsError: the files cannot be read, too many rows cannot be used, an id is repeated, or
            there are too few pairs.
    """
    path = (options.pairs if split == "train" else options.trusted) or Path()
    bad, paths = BadRows(options.on_bad_rows), _files(path, split)
    key = _id_column(paths[0]) if options.id_column is None else options.id_column or None
    columns = Columns(key, options.image_column, options.caption_column, None)
    files = tuple(Files(file.stem, [file], columns, (), bad) for file in paths)
    ids: list[str] = []
    captions: list[str] = []
    decoded: list[Tensor] = []
    digest = hashlib.sha256()
    limit = options.limit if split == "train" else None
    for block in _blocks(files, limit):
        keys, texts, images = (block[name].to_pylist() for name in ("id", "caption", "image"))
        ids += keys
        captions += texts
        for row in zip(keys, texts, images, strict=True):
            for part in (row[0].encode(), row[1].encode(), row[2]):
                digest.update(len(part).to_bytes(8, "big") + part)
        if fits(len(ids), size):
            decoded.append(decode_all(zip(keys, images, strict=True), len(keys), size))
        else:
            decoded.clear()
    bad.check_policy()
    bad.check_share()
    _check_ids(ids, str(path) if limit is None else f"{path} (cut by --limit)", LEAST[split])
    log.info("%s: %d pairs", path, len(ids))
    tensor = torch.cat(decoded) if fits(len(ids), size) else None
    return OwnPairs(files, tuple(ids), tuple(captions), tensor, size, bad, digest.hexdigest())


def _blocks(files: tuple[Files, ...], limit: int | None) -> Iterator[pa.RecordBatch]:
    """Yield the usable rows, at most ``limit`` of them."""
    count = 0
    for block in chain.from_iterable(part.checked() for part in files):
        yield block if limit is None else block[: limit - count]
        count += len(block)
        if limit is not None and count >= limit:
            return


def _check_ids(ids: list[str], name: str, least: int) -> None:
    if len(set(ids)) < len(ids):
        repeated = Counter(ids).most_common(1)[0][0]
        raise PairsError(
            f"The id {repeated!r} is repeated in {name}; ids must be unique. "
            "Use --id-column '' to number the rows."
        )
    if len(ids) < least:
        raise PairsError(f"{name} has {len(ids)} pairs; at least {least} are needed.")


def _files(path: Path, split: str) -> list[Path]:
    files = files_in(path)
    if path.is_file():
        return files
    if split != "train":
        return files_of_split(split, files)
    splits = splits_in(files)
    if "train" not in splits:
        raise PairsError(
            f"{path} has the splits {', '.join(splits)} but not train; name the file that the "
            "model was trained on."
        )
    if len(splits) > 1:
        log.info("%s: reading the files of train only", path)
    return splits["train"]


def _id_column(file: Path) -> str | None:
    if file.suffix.lower() == SHARD:
        return "id"  # the key of a sample
    try:
        # The header alone: the rows of a large file are read later, block by block.
        return "id" if "id" in names_in(file) else None
    except (pa.ArrowException, csv.Error, OSError, UnicodeError):
        return None  # the file is reported where its rows are read
