"""Splits as pairs, the poison laid over them; images decoded at once, or when asked for."""

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

from clipmend.data.images import decode_into
from clipmend.data.pairs import OVERLAY, count_pairs, read_manifest, read_pairs, read_rows
from clipmend.data.row_groups import Encoded
from clipmend.data.sampling import sample
from clipmend.data.streaming import EncodedImages, Images, fits, take_images
from clipmend.data.workers import processes_for, shared, spread
from clipmend.errors import ArtifactError

_BLOCK = 1024
_NO_OVERLAY = OVERLAY.empty_table()


@dataclass(frozen=True)
class Vocabulary:
    """What the zero-shot classifier of a corpus distinguishes (``classes.json``).

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
    """Pairs; row i of each attribute is the same pair.

    Attributes:
        images: a tensor, or too many for one: then decoded whenever they are asked for.
        label: index of the true class; -1 where it is unknown.
        is_poisoned: what only the attacker and the evaluation know.
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
        at = rows.tolist()
        return Pairs(
            ids=tuple(self.ids[row] for row in at),
            images=take_images(self.images, rows),
            captions=tuple(self.captions[row] for row in at),
            label=self.label[rows],
            is_poisoned=self.is_poisoned[rows],
        )

    def blind(self) -> "Pairs":
        """Return the pairs without what no defender knows: true labels and poison marks."""
        unknown = torch.full_like(self.label, -1)
        return replace(self, label=unknown, is_poisoned=torch.zeros_like(self.is_poisoned))


def read_vocabulary(corpus: Path) -> Vocabulary:
    """Return the classes, prompts and image size of the corpus in the folder ``corpus``."""
    stated = json.loads((corpus / "classes.json").read_text())
    return Vocabulary(tuple(stated["classes"]), tuple(stated["prompts"]), int(stated["image_size"]))


def load_split(corpus: Path, split: str, *, overlay: Path | None = None) -> Pairs:
    """Return a split with the rows of ``overlay`` in the place of their originals.

    Its images are decoded, or where they would take over 1 GiB so, left in their file.

    Raises:
        ArtifactError: the overlay changes a row that the split does not have.
        PairsError: a row cannot be decoded; of images left in their file, when it is asked for.
    """
    path, vocabulary = corpus / f"{split}.parquet", read_vocabulary(corpus)
    poison = read_pairs(overlay, OVERLAY) if overlay is not None else _NO_OVERLAY
    if fits(count_pairs(path), vocabulary.image_size):
        return _laid(read_pairs(path), poison, vocabulary)
    return _laid(read_manifest(path), poison, vocabulary, path)


def load_sample(corpus: Path, split: str, count: int) -> Pairs:
    """Return at most ``count`` pairs of a split, drawn by their ids (see ``sample``).

    Its images are decoded or left in their file, as ``load_split``'s.

    Raises:
        PairsError: as ``load_split``.
    """
    path, vocabulary = corpus / f"{split}.parquet", read_vocabulary(corpus)
    manifest = read_manifest(path)
    rows = sample(manifest["id"].to_pylist(), count)
    if fits(len(rows), vocabulary.image_size):
        return _laid(read_rows(path, rows.tolist()), _NO_OVERLAY, vocabulary)
    return _laid(manifest, _NO_OVERLAY, vocabulary, path).take(rows)


def load_rows(corpus: Path, split: str, rows: Int[Tensor, " rows"]) -> Pairs:
    """Return the pairs at some rows of a split, ascending, decoded, without their labels.

    Raises:
        PairsError: a row cannot be decoded.
    """
    table = read_rows(corpus / f"{split}.parquet", rows.tolist())
    return _laid(table, _NO_OVERLAY, read_vocabulary(corpus)).blind()


def _laid(
    table: pa.Table, poison: pa.Table, vocabulary: Vocabulary, left: Path | None = None
) -> Pairs:
    """Return the pairs with the poison laid over them.

    Args:
        left: the file that the images are left in; None: they are in the table.
    """
    ids: Sequence[str] = table["id"].to_pylist()
    told = poison if left is None else poison.drop_columns(["image"])
    changed = {row["id"]: row for row in told.to_pylist()}
    if strange := set(changed) - set(ids):
        raise ArtifactError(
            f"An overlay changes {len(strange)} rows that the split does not have, "
            f"{min(strange)!r} among them; was it made from another corpus?"
        )
    label_of = {name: label for label, name in enumerate(vocabulary.classes)}
    labels = [label_of.get(name, -1) for name in _column("label", table, changed)]
    poisoned = [row_id in changed and changed[row_id]["is_poisoned"] for row_id in ids]
    size = vocabulary.image_size
    return Pairs(
        ids=tuple(ids),
        images=_images(table, changed, size) if left is None else _left(left, ids, poison, size),
        captions=tuple(_column("caption", table, changed)),
        label=torch.tensor(labels, dtype=torch.long),
        is_poisoned=torch.tensor(poisoned, dtype=torch.bool),
    )


def _images(
    table: pa.Table, changed: Mapping[str, Mapping[str, Any]], size: int
) -> UInt8[Tensor, "samples 3 size size"]:
    """Return the decoded images; many are decoded by one process a core."""
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


def _left(path: Path, ids: Sequence[str], poison: pa.Table, size: int) -> EncodedImages:
    place = {row_id: place for place, row_id in enumerate(poison["id"].to_pylist())}
    changed = {row: place[row_id] for row, row_id in enumerate(ids) if row_id in place}
    return EncodedImages.of(Encoded(path, tuple(ids), changed, poison["image"]), size)


def _column(name: str, table: pa.Table, changed: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """Yield the values of a column, those of changed rows in the place of their originals.

    Replaced by id while reading in manifest order: a join would reorder the rows. A block at a
    time, since bytes take far more memory as Python objects than they do in the table.
    """
    for block in table.select(["id", name]).to_batches(max_chunksize=_BLOCK):
        for row_id, value in zip(*(part.to_pylist() for part in block.columns), strict=True):
            yield changed[row_id][name] if row_id in changed else value
