"""Encoded bytes to square 8-bit images, and back."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from clipmend.errors import PairsError

Pixels = NDArray[np.uint8]


def decode(encoded: bytes, size: int) -> Image.Image:
    """Return the image as RGB, with its short side resized to ``size`` and its center cropped.

    Raises:
        PairsError: Pillow cannot decode the bytes, or they are truncated.
    """
    try:
        image = Image.open(BytesIO(encoded)).convert("RGB")
    except UnidentifiedImageError as error:
        raise PairsError(f"Pillow cannot read its {len(encoded)} bytes as an image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PairsError(
            f"Pillow cannot decode its image of {len(encoded)} bytes ({error})"
        ) from error
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    wide, high = (max(size, round(side * scale)) for side in image.size)
    left, top = (wide - size) // 2, (high - size) // 2
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def decode_into(pixels: Pixels, encoded: Iterable[tuple[str, bytes]]) -> None:
    """Write the images of rows of (id, bytes) into ``pixels``, of shape (rows, 3, size, size).

    Raises:
        PairsError: as ``decode_all``.
    """
    size = pixels.shape[-1]
    for number, (row_id, data) in enumerate(encoded):
        try:
            pixels[number] = np.asarray(decode(data, size)).transpose(2, 0, 1)
        except PairsError as error:
            raise PairsError(f"Row {row_id!r}: {error}.") from error


def decode_all(
    encoded: Iterable[tuple[str, bytes]], count: int, size: int
) -> UInt8[Tensor, "samples 3 size size"]:
    """Return ``count`` rows of (id, bytes) as one tensor.

    Raises:
        PairsError: the bytes of a row cannot be decoded; the error names its id.
    """
    pixels = np.empty((count, 3, size, size), np.uint8)
    decode_into(pixels, encoded)
    return torch.from_numpy(pixels)


def encode(image: UInt8[Tensor, "3 height width"]) -> bytes:
    """Return the image as PNG, which is lossless."""
    buffer = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
