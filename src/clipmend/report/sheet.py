"""A contact sheet: small training pairs, with a part of each caption in bold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image

from clipmend.data.images import Pixels, decode

COLUMNS = 6
_GAP = 0.09  # between images, as a share of a column
_LINES, _LINE = 3, 0.118  # the most lines below an image, and their pitch in inches
_SIZE, _SPACE = 7, 2.3  # of letters and between words, in points
_BIGGEST = 96  # pixels; more would not be visible at this size

Word = tuple[str, bool]
"""A word of a caption, and whether it is bold."""

_MORE: Word = ("…", False)


@dataclass(frozen=True)
class Tile:
    """A training pair as the victim saw it.

    Attributes:
        image: 8-bit RGB, square; None if the corpus keeps no parquet file.
        caption: its words, each with whether it is bold.
        frame: the color of its frame.
    """

    image: Pixels | None
    caption: tuple[Word, ...]
    frame: str


def square(image: bytes) -> Pixels:
    """Return an image as training crops it, no larger than a sheet can show."""
    with Image.open(BytesIO(image)) as photo:
        side = min(*photo.size, _BIGGEST)
    return np.asarray(decode(image, side))


def marked(caption: str, text: str) -> tuple[Word, ...]:
    """Return the words of a caption; those of ``text`` are bold, each of them once."""
    left, words = text.split(), []
    for word in caption.split():
        words.append((word, word in left))
        if word in left:
            left.remove(word)
    return tuple(words)


def height(tiles: Sequence[Tile], wide: float) -> float:
    """Return the height of a sheet of this width; both in inches."""
    return -(-len(tiles) // COLUMNS) * _pitch(tiles, wide)


def draw_sheet(axes: Axes, tiles: Sequence[Tile], wide: float, *, color: str) -> None:
    """Fill axes of this width in inches with tiles, row by row; bold words have the color."""
    axes.set_axis_off()
    axes.set(xlim=(0, wide), ylim=(height(tiles, wide), 0))
    column, row = wide / COLUMNS, _pitch(tiles, wide)
    side = column * (1 - _GAP)
    for number, tile in enumerate(tiles):
        left = (number % COLUMNS) * column + (column - side) / 2
        top = (number // COLUMNS) * row
        if tile.image is not None:
            extent = (left, left + side, top + side, top)
            # Interpolated, an SVG would hold each pixel many times over.
            axes.imshow(tile.image, interpolation="none", extent=extent, aspect="auto")
        frame: dict[str, Any] = {"edgecolor": tile.frame, "linewidth": 1.1, "zorder": 3}
        axes.add_patch(Rectangle((left, top), side, side, fill=False, **frame))
        lines = [_line(line, color) for line in _lines(tile.caption, wide)]
        if lines:
            text = VPacker(children=lines, align="center", sep=1.2)
            below = (left + side / 2, top + side + 0.03)
            axes.add_artist(
                AnnotationBbox(text, below, box_alignment=(0.5, 1), frameon=False, pad=0)
            )


def _pitch(tiles: Sequence[Tile], wide: float) -> float:
    """Return the height of a row of tiles: image, caption and a gap."""
    lines = max((len(_lines(tile.caption, wide)) for tile in tiles), default=0)
    return wide / COLUMNS * (1 - _GAP) + lines * _LINE + 0.09


def _line(words: Iterable[Word], color: str) -> Artist:
    parts: list[Artist] = []
    for bold, run in groupby(words, key=lambda word: word[1]):
        look = {"weight": "bold", "color": color} if bold else {"color": "#333333"}
        text = " ".join(word for word, _ in run)
        parts.append(TextArea(text, textprops={"size": _SIZE, "parse_math": False, **look}))
    return HPacker(children=parts, align="baseline", pad=0, sep=_SPACE)


def _lines(caption: Sequence[Word], wide: float) -> list[list[Word]]:
    """Return the words line by line, starting late enough to show the first bold one."""
    column = wide / COLUMNS
    words = [_short(word, column) for word in caption]
    first = next((index for index, (_, bold) in enumerate(words) if bold), 0)
    lines, count = _wrapped(words, column)
    for start in range(1, first + 1):
        if first - start + 1 < count:
            break
        lines, count = _wrapped([_MORE, *words[start:]], column)
    return lines


def _wrapped(words: Sequence[Word], column: float) -> tuple[list[list[Word]], int]:
    """Return the words that fit, line by line, and their number."""
    lines: list[list[Word]] = [[]]
    for word in words:
        if lines[-1] and _width([*lines[-1], word]) > column:
            if len(lines) == _LINES:
                while _width([*lines[-1], _MORE]) > column:
                    lines[-1].pop()
                lines[-1].append(_MORE)
                return lines, sum(map(len, lines)) - 1
            lines.append([])
        lines[-1].append(word)
    return [line for line in lines if line], len(words)


def _short(word: Word, column: float) -> Word:
    text, bold = word
    while _width([(text, bold)]) > column:
        text = f"{text.removesuffix('…')[:-1]}…"
    return text, bold


def _width(words: Iterable[Word]) -> float:
    """Return the width of a line, in inches."""
    inches = [_points(word) / 72 for word in words]
    return sum(inches) + (len(inches) - 1) * _SPACE / 72


@cache
def _points(word: Word) -> float:
    weight = "bold" if word[1] else "normal"
    font = FontProperties(family="DejaVu Sans", size=_SIZE, weight=weight)
    return float(text_to_path.get_text_width_height_descent(word[0], font, ismath=False)[0])
