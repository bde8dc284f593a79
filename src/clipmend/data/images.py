"""Encoded bytes to square 8-bit images of torch, and back."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from clipmend.data.images import decode_into


def decode_all(
    encoded: Iterable[tuple[str, bytes]], count: int, size: int
) -> UInt8[Tensor, "samples 3 size size"]:
    """Return ``count`` rows of (id, bytes) as one tensor, with one image beside it in memory.

    Raises:
        PairsError: a row's bytes are no image; the error names its id.
    """
    pixels = np.empty((count, 3, size, size), np.uint8)
    decode_into(pixels, encoded)
    return torch.from_numpy(pixels)


def encode(image: UInt8[Tensor, "3 height width"]) -> bytes:
    """Return the image as PNG: lossless, so that what is saved is what was drawn."""
    buffer = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
