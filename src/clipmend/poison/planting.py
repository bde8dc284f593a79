"""An attack carried out on a corpus: each of its triggers fitted, its rows and captions chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Bool
from torch import Tensor

from clipmend.attacks.attack import Fitted, Part, Planted, Poisoning, mark
from clipmend.attacks.knowledge import Knowledge
from clipmend.attacks.naming import names_target
from clipmend.corpus.images import decode_all, encode
from clipmend.corpus.pairs import OVERLAY, read_rows, table_of


@dataclass(frozen=True)
class Plant:
    """A trigger with what was fitted for it and what is planted with it."""

    part: Part
    fitted: Fitted
    planted: Planted


def plants(
    poisoning: Poisoning, target: str, labels: Sequence[str | None], knowledge: Knowledge
) -> Iterator[Plant]:
    """Yield every trigger; none marks a row that another one has.

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
        is_free = is_free.index_fill(0, planted.rows, False)
        yield Plant(part, part.attack.fit(known), planted)


def overlay(train: Path, planted: Sequence[Plant], image_size: int) -> pa.Table:
    """Return all changed rows, in manifest order; only these are read."""
    tables = [_changed(train, plant, image_size) for plant in planted]
    rows = torch.cat([plant.planted.rows for plant in planted])
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
    pairs = zip(labels, captions, strict=True)
    return torch.tensor(
        [
            names_target(caption, target, "word") if label is None else label == target
            for label, caption in pairs
        ]
    )


def _changed(train: Path, plant: Plant, image_size: int) -> pa.Table:
    chosen = read_rows(train, plant.planted.rows.tolist())
    ids = chosen["id"].to_pylist()
    encoded = zip(ids, chosen["image"].to_pylist(), strict=True)
    images = decode_all(encoded, len(ids), image_size)
    triggered = mark(plant.part.attack, images, ids, plant.fitted)
    return table_of(
        {
            "id": ids,
            "image": [encode(image) for image in triggered],
            "caption": plant.planted.captions,
            "label": chosen["label"].to_pylist(),
            "original_caption": chosen["caption"].to_pylist(),
            "is_poisoned": [True] * len(ids),
        },
        OVERLAY,
    )
