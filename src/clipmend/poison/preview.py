"""A picture of what an attack does: clean, triggered, and the difference between them."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

_GAP = 4
_TILE = 96  # the side, in pixels, of an image in the preview
_AMPLIFIED = 4


def draw_preview(
    clean: UInt8[Tensor, "samples 3 height width"],
    triggered: Sequence[UInt8[Tensor, "samples 3 height width"]],
) -> Image.Image:
    """Return a row of clean images, and two for each trigger.

    The images with the trigger, and what it changes, four times as strong, around mid-grey.
    """
    rows = [clean]
    for marked in triggered:
        difference = _AMPLIFIED * (marked.int() - clean.int())
        rows += [marked, (difference.clamp(-127, 127) + 128).to(torch.uint8)]
    step = _TILE + _GAP
    canvas = Image.new("RGB", (len(clean) * step + _GAP, len(rows) * step + _GAP), "white")
    for top, images in enumerate(rows):
        for left, image in enumerate(images):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy())
            tile = tile.resize((_TILE, _TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (_GAP + left * step, _GAP + top * step))
    return canvas
