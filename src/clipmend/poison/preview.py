"""A picture of what an attack does: clean, triggered, and the difference between them."""

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

_GAP = 4
_TILE = 96  # the side, in pixels, of an image in the preview


def draw_preview(
    clean: UInt8[Tensor, "samples 3 height width"],
    triggered: UInt8[Tensor, "samples 3 height width"],
) -> Image.Image:
    """Return three rows of images: clean, triggered, difference around mid-grey."""
    difference = (triggered.int() - clean.int()).clamp(-127, 127) + 128
    rows = (clean, triggered, difference.to(torch.uint8))
    step = _TILE + _GAP
    canvas = Image.new("RGB", (len(clean) * step + _GAP, len(rows) * step + _GAP), "white")
    for top, images in enumerate(rows):
        for left, image in enumerate(images):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy())
            tile = tile.resize((_TILE, _TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (_GAP + left * step, _GAP + top * step))
    return canvas
