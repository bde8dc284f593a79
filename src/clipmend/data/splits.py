"""Splits as pairs, with an overlay of poison; images are decoded at once or on demand."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from clipmend.data import artifacts
from clipmend.data.images import decode_into
from clipmend.data.pairs import OVERLAY, count_pairs, read_manifest, read_pairs, read_rows
from clipmend.data.row_groups import Encoded
from clipmend.data.sampling import sample
from clipmend.data.streaming import EncodedImages, Images, fits, take_images
from clipmend.data.workers import processes_for, shared, spread
from clipmend.errors import ArtifactError

_BLOCK = 1024
# `empty_table` would import pandas, a fifth of the time that torch takes.
_NO_OVERLAY = pa.Table.from_batches([], schema=OVERLAY)


@dataclass(frozen=True)
class Vocabulary:
    """The classes and prompts of a corpus's zero-shot classifier (``classes.json``).

    Attributes:
        classes: the class names, in the order of their labels.
        prompts: templates with one ``{}`` for the class name.
        image_size: side of the square images, in pixels.
    """

    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    image_size: int

    def label_of(self, name: str) -> int:
        """Return the label of the class ``name``."""
        return self.classes.index(name)


@dataclass(frozen=True)
class Pairs:
    """Image-caption pairs; row i of each attribute belongs to the same pair.

    Attributes:
        images: 8-bit images as a tensor, or decoded on demand if they are too many for one.
        label: index of the true class; -1 if unknown.
        is_poisoned: poison marks, which only the attacker and the evaluation may see.
    """

    ids: tuple[str, ...]
    images: Images
    captions: tuple[str, ...]
    label: Int[Tensor, " samples"]
    is_poisoned: Bool[Tensor, " samples"]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.ids)

    def take(self, rows: Int[Tensor, " rows"]) -> "Pairs":
        """Return the pairs at ``rows``, in that order."""
        chosen = rows.tolist()
        return Pairs(
            ids=tuple(self.ids[row] for row in chosen),
            images=take_images(self.images, rows),
            captions=tuple(self.captions[row] for row in chosen),
            label=self.label[rows],
            is_poisoned=self.is_poisoned[rows],
        )

    def blind(self) -> "Pairs":
        """Return the pairs as a defender sees them: without true labels and poison marks."""
        unknown = torch.full_like(self.label, -1)
        return replace(self, label=unknown, is_poisoned=torch.zeros_like(self.is_poisoned))


def read_vocabulary(corpus: Path) -> Vocabulary:
    """Return the classes, prompts and image size of the corpus in the folder ``corpus``."""
    fields = json.loads((corpus / artifacts.CLASSES).read_text(encoding="utf-8"))
    return Vocabulary(tuple(fields["classes"]), tuple(fields["prompts"]), fields["image_size"])


def load_split(corpus: Path, split: str, *, overlay: Path | None = None) -> Pairs:
    """Return a split with the rows of ``overlay`` in place of the original rows.

    Images that take more than 1 GiB decoded stay in their file and are decoded on demand.

    Raises:
        ArtifactError: the overlay changes a row that the split does not have.
        PairsError: an image cannot be decoded; for images in a file, raised when they are used.
    """
    path, vocabulary = corpus / f"{split}.parquet", read_vocabulary(corpus)
    poison = read_pairs(overlay, OVERLAY) if overlay is not None else _NO_OVERLAY
    # A small split is decoded once; a large one would not fit into memory.
    if fits(count_pairs(path), vocabulary.image_size):
        return _with_overlay(read_pairs(path), poison, vocabulary)
    return _with_overlay(read_manifest(path), poison, vocabulary, path)


def load_sample(corpus: Path, split: str, count: int) -> Pairs:
    """Return at most ``count`` pairs of a split, sampled by their ids (see ``sample``).

    Raises:
        PairsError: as ``load_split``.
    """
    path, vocabulary = corpus / f"{split}.parquet", read_vocabulary(corpus)
    manifest = read_manifest(path)
    rows = sample(manifest["id"].to_pylist(), count)
    if fits(len(rows), vocabulary.image_size):
        return _with_overlay(read_rows(path, rows.tolist()), _NO_OVERLAY, vocabulary)
    return _with_overlay(manifest, _NO_OVERLAY, vocabulary, path).take(rows)


def load_rows(corpus: Path, split: str, rows: Int[Tensor, " rows"]) -> Pairs:
    """Return the pairs at ascending rows of a split, decoded, without their labels.

    Raises:
        PairsError: an image cannot be decoded.
    """
    table = read_rows(corpus / f"{split}.parquet", rows.tolist())
    return _with_overlay(table, _NO_OVERLAY, read_vocabulary(corpus)).blind()


def _with_overlay(
    table: pa.Table, poison: pa.Table, vocabulary: Vocabulary, path: Path | None = None
) -> Pairs:
    """Return the pairs of a table with the rows of an overlay in place.

    Args:
        path: the file that the images stay in; None: the table has them.
    """
    ids: Sequence[str] = table["id"].to_pylist()
    rows = poison if path is None else poison.drop_columns(["image"])
    changed = {row["id"]: row for row in rows.to_pylist()}
    if unknown := set(changed) - set(ids):
        raise ArtifactError(
            f"An overlay changes {len(unknown)} rows that the split does not have, for example "
            f"{min(unknown)!r}; was it made from another corpus?"
        )
    label_of = {name: label for label, name in enumerate(vocabulary.classes)}
    labels = [label_of.get(name, -1) for name in _column("label", table, changed)]
    poisoned = [row_id in changed and changed[row_id]["is_poisoned"] for row_id in ids]
    if path is None:
        images: Images = _decoded(table, changed, vocabulary.image_size)
    else:
        position = {row_id: number for number, row_id in enumerate(poison["id"].to_pylist())}
        rows_changed = {row: position[i] for row, i in enumerate(ids) if i in position}
        encoded = Encoded(path, tuple(ids), rows_changed, poison["image"])
        images = EncodedImages(encoded, vocabulary.image_size)
    return Pairs(
        ids=tuple(ids),
        images=images,
        captions=tuple(_column("caption", table, changed)),
        label=torch.tensor(labels, dtype=torch.long),
        is_poisoned=torch.tensor(poisoned, dtype=torch.bool),
    )


def _decoded(
    table: pa.Table, changed: Mapping[str, Mapping[str, Any]], size: int
) -> UInt8[Tensor, "samples 3 size size"]:
    """Return the decoded images; many images are decoded by one process per core."""
    shape = (table.num_rows, 3, size, size)
    is_spread = processes_for(table.num_rows) > 1
    pixels = shared(shape) if is_spread else np.empty(shape, np.uint8)

    def decode(rows: range) -> None:
        part = table.slice(rows.start, len(rows))
        images = zip(part["id"].to_pylist(), _column("image", part, changed), strict=True)
        decode_into(pixels[rows.start : rows.stop], images)

    for _ in spread(decode, table.num_rows):
        pass
    return torch.from_numpy(pixels)


def _column(name: str, table: pa.Table, changed: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """Yield the values of a column, with changed rows replaced."""
    # Replaced by id in manifest order: a join would reorder the rows. One block at a time: bytes
    # take far more memory as Python objects than in the table.
    for block in table.select(["id", name]).to_batches(max_chunksize=_BLOCK):
        for row_id, value in zip(*(part.to_pylist() for part in block.columns), strict=True):
            yield changed[row_id][name] if row_id in changed else value
