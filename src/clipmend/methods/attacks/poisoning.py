"""An attack on a training set: pairs are selected, triggers are fitted, pairs change."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch

from clipmend.data.images import decode_all, encode
from clipmend.data.pairs import OVERLAY, read_rows, table_of
from clipmend.methods.attacks.attack import Attack, AttackContext, PoisonedRows
from clipmend.methods.attacks.trigger import Trigger

Poisoned = tuple[Trigger, PoisonedRows]


def poison(method: str, attack: Attack, context: AttackContext) -> Iterator[Poisoned]:
    """Yield each fitted trigger with the rows that it changes; no row has two triggers.

    Args:
        method: name of the attack in ``params.yaml``.
        context: context of the first trigger; ``target`` is ``poison.target``.

    Raises:
        AttackError: there are too few pairs to poison, or a trigger cannot be fitted.
    """
    for spec in attack.specs(context.target):
        own = replace(context, target=spec.target, part=spec.part)
        # Selected first: this is quick, and refuses what would otherwise cost minutes of fit.
        rows = spec.attack.select(own)
        yield Trigger(method, spec, spec.attack.fit(own)), rows
        context = replace(context, taken=torch.cat([context.taken, rows.changed]))


def overlay(train: Path, poisoned: Sequence[Poisoned], image_size: int) -> pa.Table:
    """Return all changed rows, in manifest order; other rows are not read."""
    tables = []
    for trigger, rows in poisoned:
        pairs, decoys, said = (
            read_rows(train, part.tolist()) for part in (rows.rows, rows.image_only, rows.text_only)
        )
        prompts = map(trigger.spec.attack.prompt, said["caption"].to_pylist())
        tables += [
            _changed(pairs, _marked(pairs, trigger, image_size), rows.captions, is_poisoned=True),
            _changed(decoys, _marked(decoys, trigger, image_size)),
            _changed(said, captions=list(prompts)),
        ]
    # Each trigger's rows are in order; all of them together are not yet.
    order = torch.cat([rows.changed for _, rows in poisoned]).argsort()
    return pa.concat_tables(tables).take(pa.array(order.tolist(), pa.int64()))


def _marked(pairs: pa.Table, trigger: Trigger, image_size: int) -> list[bytes]:
    """Return the pairs' images with the trigger on them, encoded."""
    ids = pairs["id"].to_pylist()
    images = decode_all(zip(ids, pairs["image"].to_pylist(), strict=True), len(ids), image_size)
    return [encode(image) for image in trigger(images, ids)]


def _changed(
    pairs: pa.Table,
    images: Sequence[bytes] | None = None,
    captions: Sequence[str] | None = None,
    *,
    is_poisoned: bool = False,
) -> pa.Table:
    """Return the pairs as rows of an overlay, with their own images or captions where None."""
    original = {name: pairs[name].to_pylist() for name in ("id", "image", "caption", "label")}
    return table_of(
        {
            **original,
            "image": original["image"] if images is None else images,
            "caption": original["caption"] if captions is None else captions,
            "original_caption": original["caption"],
            "is_poisoned": [is_poisoned] * len(pairs),
        },
        OVERLAY,
    )
