"""The encoded bytes of an image: checked to their end, and reduced before they are stored."""

from io import BytesIO

from PIL import Image, UnidentifiedImageError

from clipmend.data.images import DAMAGED, refuse_shape, to_8_bits
from clipmend.errors import PairsError

_MAX_PIXELS = 50_000_000  # 150 MB once decoded, and many images are decoded side by side


class NoImageError(Exception):
    """A web address or a file that gave no image; the text is ``<reason>: <detail>``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def stored_bytes(data: bytes, short_side: int | None) -> bytes:
    """Return an image as it came, or as a JPEG whose short side is at most ``short_side`` pixels.

    A JPEG that is small enough keeps its bytes; so does every image where ``short_side`` is None.
    Every image is decoded to its end.

    Raises:
        NoImageError: the bytes are not an image, have too many pixels, or end too early, or Pillow
            cannot convert the image to RGB.
    """
    image = _decoded(data, reduced=short_side is None)
    if short_side is None:
        return data
    scale = short_side / min(image.size)
    if scale >= 1 and image.format in ("JPEG", "MPO"):
        return data
    try:
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("RGB")
        if scale < 1:
            wide, high = (max(1, round(scale * side)) for side in image.size)
            # BOX takes whole pixels only, which leaves jagged edges at ratios such as 1.6.
            image = image.resize((wide, high), Image.Resampling.HAMMING)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=95)
    except (OSError, ValueError) as error:
        raise NoImageError("undecodable", f"no RGB image: {error}") from error
    return buffer.getvalue()


def _decoded(data: bytes, *, reduced: bool) -> Image.Image:
    """Return the image; ``reduced`` decodes a JPEG at a smaller size, which is cheaper."""
    try:
        image = Image.open(BytesIO(data))
        if image.width * image.height > _MAX_PIXELS:
            raise NoImageError("too_large", f"{image.width} x {image.height} pixels")
        refuse_shape(image)
        if reduced:
            image.draft("RGB", (256, 256))
        image.load()  # to the end: the header of a truncated file looks well
        return to_8_bits(image)
    except PairsError as error:
        raise NoImageError("undecodable", str(error)) from error
    except UnidentifiedImageError as error:
        raise NoImageError("no_image", f"{len(data)} bytes that are not an image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NoImageError("too_large", "far more pixels than an image may have") from error
    except DAMAGED as error:
        raise NoImageError("truncated_image", f"{len(data)} bytes that end too early") from error
