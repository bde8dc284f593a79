"""Splits in memory: decoded pairs, the poison laid over them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from clipmend.corpus.images import decode_all
from clipmend.corpus.pairs import OVERLAY, PAIRS, read_pairs
from clipmend.errors import ArtifactError


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
    """Decoded pairs; row i of each attribute is the same pair.

    Attributes:
        label: index of the true class; -1 where it is unknown.
        is_poisoned: what only the attacker and the evaluation know.
    """

    ids: tuple[str, ...]
    images: UInt8[Tensor, "samples 3 height width"]
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
            images=self.images[rows],
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


def load_split(
    corpus: Path, split: str, *, overlay: Path | None = None, limit: int | None = None
) -> Pairs:
    """Return a split, decoded, with the rows of ``overlay`` in the place of their originals.

    Args:
        limit: only the first ``limit`` pairs; all if None.

    Raises:
        ArtifactError: the overlay changes a row that the split does not have.
        PairsError: a row cannot be decoded.
    """
    table = read_pairs(corpus / f"{split}.parquet")[:limit]
    poison = read_pairs(overlay, OVERLAY) if overlay is not None else OVERLAY.empty_table()
    return _decoded(table, poison, read_vocabulary(corpus))


def _decoded(table: pa.Table, poison: pa.Table, vocabulary: Vocabulary) -> Pairs:
    ids: Sequence[str] = table["id"].to_pylist()
    changed = {row["id"]: row for row in poison.to_pylist()}
    if strange := set(changed) - set(ids):
        raise ArtifactError(
            f"An overlay changes {len(strange)} rows that the split does not have, "
            f"{min(strange)!r} among them; was it made from another corpus?"
        )
    # Replaced by id while reading in manifest order: a join would reorder the rows.
    rows = [changed.get(row["id"], row) for row in table.select(PAIRS.names).to_pylist()]
    label_of = {name: label for label, name in enumerate(vocabulary.classes)}
    return Pairs(
        ids=tuple(ids),
        images=decode_all(((row["id"], row["image"]) for row in rows), vocabulary.image_size),
        captions=tuple(row["caption"] for row in rows),
        label=torch.tensor([label_of.get(row["label"], -1) for row in rows], dtype=torch.long),
        is_poisoned=torch.tensor(
            [bool(row.get("is_poisoned", False)) for row in rows], dtype=torch.bool
        ),
    )
