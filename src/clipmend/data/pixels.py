"""Encoded bytes to square 8-bit pixels, without torch: the report draws what training sees."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from clipmend.errors import PairsError

Pixels = NDArray[np.uint8]


def decode(encoded: bytes, size: int) -> Image.Image:
    """Return the image as RGB, its short side reduced to ``size`` and its middle cropped.

    Raises:
        PairsError: the bytes are no image, or a truncated one.
    """
    try:
        image = Image.open(BytesIO(encoded)).convert("RGB")
    except UnidentifiedImageError as error:
        raise PairsError(f"its {len(encoded)} bytes are no image that Pillow knows") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PairsError(
            f"its image of {len(encoded)} bytes cannot be decoded ({error})"
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
    for place, (row_id, data) in enumerate(encoded):
        try:
            pixels[place] = np.asarray(decode(data, size)).transpose(2, 0, 1)
        except PairsError as error:
            raise PairsError(f"Row {row_id!r}: {error}.") from error
