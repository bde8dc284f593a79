"""Encoded bytes to square 8-bit images, and back."""

import struct
import warnings
import zlib
from collections.abc import Iterable
from io import BytesIO

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from clipmend.errors import PairsError

Pixels = NDArray[np.uint8]

_MAX_RATIO = 50
_BITS, _WHITE = 258, 262  # TIFF's tags of the bits of a sample, and of the meaning of its zero
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for damaged bytes, by format."""

# An image of more than 89 million pixels is refused instead of decoded with a warning.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(encoded: bytes, size: int) -> Image.Image:
    """Return the image as RGB, with its short side resized to ``size`` and its center cropped.

    Raises:
        PairsError: Pillow cannot decode the bytes, or they are truncated; the image is too large
            or too long; or the range of its levels is unknown.
    """
    try:
        opened = Image.open(BytesIO(encoded))
        refuse_shape(opened)
        image = to_8_bits(opened).convert("RGB")
    except UnidentifiedImageError as error:
        raise PairsError(f"Pillow cannot read its {len(encoded)} bytes as an image") from error
    except DAMAGED as error:
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


def refuse_shape(image: Image.Image) -> None:
    """Refuse an image whose long side is far longer than the other, before it is decoded.

    Raises:
        PairsError: the image has such a shape.
    """
    # Its center is cropped after it is resized, so memory grows with this ratio.
    if max(image.size) > _MAX_RATIO * min(image.size):
        raise PairsError(
            f"its image has {image.width} x {image.height} pixels; one side may be at most "
            f"{_MAX_RATIO} times as long as the other"
        )


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return a gray image of 16 bits or of floating point with 8 bits; others as they are.

    Pillow itself would cut off all levels above 255. The high byte is what remains, as Pillow
    takes it of color images of 16 bits.

    Raises:
        PairsError: the range of its levels is unknown.
    """
    if image.mode not in ("F", "I") and not image.mode.startswith("I;16"):
        return image
    levels = np.asarray(image)
    low, high = levels.min(), levels.max()
    if image.mode == "F":
        if not 0 <= low <= high <= 1:  # false for NaN too
            raise PairsError(f"its levels are {low:g} to {high:g}; floats must be in [0, 1]")
        return Image.fromarray((levels * 255).round().astype(np.uint8))
    if image.mode == "I" and (image.format not in ("PNG", "PPM") or not 0 <= low <= high < 2**16):
        raise PairsError("its levels have 32 bits or a sign, and their range is unknown")
    if isinstance(image, TiffImageFile):
        # Scanners write 10 or 12 bits too, and white as 0: Pillow leaves both as they are.
        levels = levels << (16 - image.tag_v2.get(_BITS, (16,))[0])
        levels = ~levels if image.tag_v2.get(_WHITE) == 0 else levels
    return Image.fromarray((levels >> 8).astype(np.uint8))


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
