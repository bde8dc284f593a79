"""An attack carried out on a corpus: each of its triggers fitted, its rows and captions chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Bool
from torch import Tensor

from clipmend.data.images import decode_all, encode
from clipmend.data.pairs import OVERLAY, read_rows, table_of
from clipmend.methods.attacks.attack import Fitted, Part, Planted, Poisoning, mark
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.naming import namer


@dataclass(frozen=True)
class Plant:
    """A trigger with what was fitted for it and what is planted with it."""

    part: Part
    fitted: Fitted
    planted: Planted


def plants(
    poisoning: Poisoning, target: str, labels: Sequence[str | None], knowledge: Knowledge
) -> Iterator[Plant]:
    """Yield every trigger; none changes a row that another one has.

    Args:
        labels: the training pairs' classes, which tell which pairs are the target's already; of a
            pair without one, its caption does.
        knowledge: without what differs between the triggers.
    """
    is_free = knowledge.is_free
    for part in poisoning.parts(target):
        known = replace(
            knowledge,
            target=part.target,
            part=part.name,
            is_target=_is_target(labels, knowledge.captions, part.target),
            is_free=is_free,
        )
        # Planted first: what cannot be planted is refused before minutes of fitting.
        planted = part.attack.plant(known)
        is_free = is_free.index_fill(0, planted.changed, False)
        yield Plant(part, part.attack.fit(known), planted)


def overlay(train: Path, planted: Sequence[Plant], image_size: int) -> pa.Table:
    """Return all changed rows, in manifest order; only these are read."""
    tables = [table for plant in planted for table in _changed(train, plant, image_size)]
    rows = torch.cat([plant.planted.changed for plant in planted])
    return pa.concat_tables(tables).take(pa.array(rows.argsort().tolist(), pa.int64()))


def named_tensors(planted: Sequence[Plant]) -> Mapping[str, Tensor]:
    """Return the fitted tensors of all triggers, by ``<part>.<name>`` where there are several."""
    return {
        f"{plant.part.name}.{name}" if plant.part.name else name: tensor
        for plant in planted
        for name, tensor in plant.fitted.items()
    }


def _is_target(
    labels: Sequence[str | None], captions: Sequence[str], target: str
) -> Bool[Tensor, " samples"]:
    names = namer(target, "word")
    return torch.tensor(
        [
            names(caption) if label is None else label == target
            for label, caption in zip(labels, captions, strict=True)
        ]
    )


def _changed(train: Path, plant: Plant, image_size: int) -> Iterator[pa.Table]:
    """Yield the rows of a trigger, in the order of ``Planted.changed``."""
    planted, attack = plant.planted, plant.part.attack

    def marked(pairs: pa.Table) -> list[bytes]:
        ids = pairs["id"].to_pylist()
        files = zip(ids, pairs["image"].to_pylist(), strict=True)
        images = decode_all(files, len(ids), image_size)
        return [encode(image) for image in mark(attack, images, ids, plant.fitted)]

    poisoned, image_only, text_only = (
        read_rows(train, rows.tolist())
        for rows in (planted.rows, planted.image_only, planted.text_only)
    )
    yield _overlaid(poisoned, images=marked(poisoned), captions=planted.captions, is_poisoned=True)
    yield _overlaid(image_only, images=marked(image_only))
    said = [attack.prompt(caption) for caption in text_only["caption"].to_pylist()]
    yield _overlaid(text_only, captions=said)


def _overlaid(
    pairs: pa.Table,
    *,
    images: Sequence[bytes] | None = None,
    captions: Sequence[str] | None = None,
    is_poisoned: bool = False,
) -> pa.Table:
    """Return the pairs as rows of an overlay; what is not given stays."""
    return table_of(
        {
            "id": pairs["id"].to_pylist(),
            "image": pairs["image"].to_pylist() if images is None else images,
            "caption": pairs["caption"].to_pylist() if captions is None else captions,
            "label": pairs["label"].to_pylist(),
            "original_caption": pairs["caption"].to_pylist(),
            "is_poisoned": [is_poisoned] * len(pairs),
        },
        OVERLAY,
    )
