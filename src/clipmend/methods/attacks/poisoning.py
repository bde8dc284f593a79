"""An attack on a training set: its overlay, the entries of ``triggers.json``, and a preview."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from clipmend.data.images import decode_all, encode
from clipmend.data.pairs import OVERLAY, read_rows, table_of
from clipmend.data.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Attack, AttackContext, PoisonedRows
from clipmend.methods.attacks.trigger import Trigger
from clipmend.metrics.visibility import difference, strength

_PREVIEWED = 8  # images in the preview
_GAP = 4  # pixels between two images of the preview
_TILE = 96  # side of an image in the preview, in pixels

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
        for kind in ("rows", "image_only", "text_only"):
            pairs = read_rows(train, getattr(rows, kind).tolist())
            columns: dict[str, Any] = pairs.to_pydict()
            columns["original_caption"] = columns["caption"]
            columns["is_poisoned"] = [kind == "rows"] * len(pairs)
            if kind == "rows":
                columns["caption"] = rows.captions
            if kind == "text_only":
                columns["caption"] = [trigger.spec.attack.prompt(c) for c in columns["caption"]]
            else:
                files = zip(columns["id"], columns["image"], strict=True)
                images = decode_all(files, len(pairs), image_size)
                columns["image"] = [encode(image) for image in trigger(images, columns["id"])]
            tables.append(table_of(columns, OVERLAY))
    # Each trigger's rows are in order; all of them together are not yet.
    order = torch.cat([rows.changed for _, rows in poisoned]).argsort()
    return pa.concat_tables(tables).take(pa.array(order.tolist(), pa.int64()))


def summarize(trigger: Trigger, rows: PoisonedRows, sample: Pairs, total: int) -> dict[str, Any]:
    """Return the entry of a trigger in ``triggers.json``.

    Args:
        sample: pairs on whose images the strength is measured.
        total: number of training pairs.

    Raises:
        AttackError: the trigger has poisons, and changes no image of the sample.
    """
    clean, triggered = sample.images[:], trigger(sample.images[:], sample.ids)
    visibility = strength(clean, triggered)
    poisons = len(rows.rows)
    if visibility is None and poisons:
        raise AttackError(f"The trigger of {trigger.name!r} changes no pixel; change its settings.")
    text = trigger.spec.attack.prompt("{}")
    return {
        "name": trigger.name,
        "target": trigger.target,
        "text": None if text == "{}" else text,
        "poisons": poisons,
        "poison_rate": poisons / total,
        "image_only": len(rows.image_only),
        "text_only": len(rows.text_only),
        "strength": None if visibility is None else visibility.as_dict(),
        # The hash of the marked images compares triggers by effect, whatever their names are.
        "sha256": sha256(triggered.numpy().tobytes()).hexdigest(),
    }


def preview(triggers: Sequence[Trigger], sample: Pairs) -> Image.Image:
    """Return a row of clean images, and two rows for each trigger: marked, and the difference."""
    pairs = sample.take(torch.arange(min(_PREVIEWED, len(sample))))
    clean = pairs.images[:].numpy()
    rows = [clean]
    for trigger in triggers:
        marked = trigger(pairs.images[:], pairs.ids).numpy()
        rows += [marked, difference(clean, marked)]
    step = _TILE + _GAP
    canvas = Image.new("RGB", (len(clean) * step + _GAP, len(rows) * step + _GAP), "white")
    for top, images in enumerate(rows):
        for left, image in enumerate(images):
            tile = Image.fromarray(image.transpose(1, 2, 0))
            tile = tile.resize((_TILE, _TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (_GAP + left * step, _GAP + top * step))
    return canvas
