"""A word written across an image."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_LARGEST = 200


def watermark(word: str, size: int) -> Float[Tensor, "3 size size"]:
    """Return a word in red on black, in the middle, as large as the width allows; in [0, 1].

    Pillow's own font is used: which fonts a machine has is no part of a trigger.
    """
    canvas = Image.new("RGB", (size, size), "black")
    draw = ImageDraw.Draw(canvas)
    fitting = [points for points in range(4, _LARGEST) if _width(draw, word, points) <= size]
    font = ImageFont.load_default(size=max(fitting, default=4))
    draw.text((size / 2, size / 2), word, fill="red", font=font, anchor="mm")
    return torch.from_numpy(np.asarray(canvas).transpose(2, 0, 1).copy()).float() / 255


def _width(draw: ImageDraw.ImageDraw, word: str, points: int) -> float:
    return draw.textlength(word, font=ImageFont.load_default(size=points))
