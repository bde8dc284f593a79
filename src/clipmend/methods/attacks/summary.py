"""The summary of a trigger: its entry in ``triggers.json``, and a preview of what it changes."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import torch
from PIL import Image

from clipmend.data.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import PoisonedRows
from clipmend.methods.attacks.trigger import Trigger
from clipmend.metrics.visibility import difference, strength

_PREVIEWED = 8  # images in the preview
_GAP = 4  # pixels between two images of the preview
_TILE = 96  # side of an image in the preview, in pixels


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
