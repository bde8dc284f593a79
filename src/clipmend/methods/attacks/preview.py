"""A picture of what an attack does: clean, triggered, and the difference between them."""

from collections.abc import Sequence

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from clipmend.metrics.visibility import difference

_GAP = 4
_TILE = 96  # the side, in pixels, of an image in the preview


def draw_preview(
    clean: UInt8[Tensor, "samples 3 height width"],
    triggered: Sequence[UInt8[Tensor, "samples 3 height width"]],
) -> Image.Image:
    """Return a row of clean images, and two for each trigger: with it, and what it changes."""
    rows = [clean.numpy()]
    for marked in triggered:
        rows += [marked.numpy(), difference(clean.numpy(), marked.numpy())]
    step = _TILE + _GAP
    canvas = Image.new("RGB", (len(clean) * step + _GAP, len(rows) * step + _GAP), "white")
    for top, images in enumerate(rows):
        for left, image in enumerate(images):
            tile = Image.fromarray(image.transpose(1, 2, 0))
            tile = tile.resize((_TILE, _TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (_GAP + left * step, _GAP + top * step))
    return canvas
