"""A contact sheet: the most suspect pairs at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from clipmend.data.words import bare

SHOWN = 64
_ACROSS = 8
_TILE, _GAP, _MARGIN = 160, 20, 32  # pixels
_RANK, _LINE, _LINES = 20, 17, 2  # the room of the rank, and of the caption below it
_CELL = _TILE + 6 + _RANK + _LINES * _LINE
_TITLE_LINE, _NOTE = 30, 42
_INK, _PALE, _FRAME, _ACCENT = "#222222", "#767676", "#D0D0D0", "#D55E00"
# DejaVu comes with matplotlib: the same on every machine.
_FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"

_Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Shown:
    """The pairs on the sheet, the most suspect first.

    Attributes:
        title: what was found, in a sentence.
        note: of what these pairs are the most suspect.
        word: is drawn in color wherever a caption has it; "" where nothing was found.
    """

    title: str
    note: str
    word: str
    ids: Sequence[str]
    captions: Sequence[str]
    images: UInt8[Tensor, "samples 3 height width"]


def draw_sheet(shown: Shown) -> Image.Image:
    """Return rows of eight: image, rank and id, caption on two lines at most."""
    wide = 2 * _MARGIN + _ACROSS * (_TILE + _GAP) - _GAP
    bold, small = _font(20, "-Bold"), _font(13)
    title = cut_lines(shown.title, wide - 2 * _MARGIN, bold, most=2)
    top = _MARGIN + len(title) * _TITLE_LINE + _NOTE
    rows = -(-len(shown.ids) // _ACROSS)
    sheet = Image.new("RGB", (wide, top + rows * (_CELL + _GAP) - _GAP + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate(title):
        draw.text((_MARGIN, _MARGIN + line * _TITLE_LINE), text, _INK, bold, anchor="la")
    draw.text((_MARGIN, top - _NOTE), shown.note, _PALE, small, anchor="la")
    for place, image in enumerate(shown.images):
        x = _MARGIN + place % _ACROSS * (_TILE + _GAP)
        y = top + place // _ACROSS * (_CELL + _GAP)
        sheet.paste(_tile(image), (x, y))
        draw.rectangle((x - 1, y - 1, x + _TILE, y + _TILE), outline=_FRAME)
        _label(draw, (x, y + _TILE + 6), place, shown)
    return sheet


def _tile(image: UInt8[Tensor, "3 height width"]) -> Image.Image:
    """Return the image at the tile's size; a small one keeps its pixels visible."""
    tile = Image.fromarray(image.permute(1, 2, 0).numpy())
    if tile.width < _TILE:
        factor = -(-_TILE // tile.width)
        tile = tile.resize((factor * tile.width, factor * tile.height), Image.Resampling.NEAREST)
    return tile.resize((_TILE, _TILE), Image.Resampling.LANCZOS)


def _label(draw: ImageDraw.ImageDraw, at: tuple[int, int], place: int, shown: Shown) -> None:
    x, y = at
    number, tiny = _font(13, "-Bold"), _font(11)
    draw.text((x, y + _RANK / 2), str(place + 1), _INK, number, anchor="lm")
    right = _TILE - number.getlength(f"{place + 1}  ")
    row_id = _end_of(shown.ids[place], right, tiny)
    draw.text((x + _TILE, y + _RANK / 2), row_id, _PALE, tiny, anchor="rm")
    font, marked = _font(13), _font(13, "-Bold")
    # Measured in bold: a word that is set in it fits, too.
    for line, text in enumerate(cut_lines(shown.captions[place], _TILE, marked, most=_LINES)):
        across = float(x)
        for word in text.split():
            is_marked = shown.word != "" and bare(word) == shown.word
            used, ink = (marked, _ACCENT) if is_marked else (font, _INK)
            draw.text((across, y + _RANK + line * _LINE), word, ink, used, anchor="la")
            across += used.getlength(f"{word} ")


def cut_lines(text: str, wide: int | float, font: _Font, *, most: int) -> list[str]:
    """Return the text on at most so many lines of so many pixels, "…" where it was cut."""
    lines: list[str] = []
    words = [piece for word in text.split() for piece in _pieces(word, wide, font)]
    for place, word in enumerate(words):
        if lines and font.getlength(f"{lines[-1]} {word}") <= wide:
            lines[-1] += f" {word}"
        elif len(lines) < most:
            lines.append(word)
        else:
            lines[-1] = _shortened(f"{lines[-1]} {' '.join(words[place:])}", wide, font)
            break
    return lines


def _pieces(word: str, wide: int | float, font: _Font) -> list[str]:
    """Return the word in pieces that fit on a line: not every script has spaces."""
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        if font.getlength(word[start:end]) > wide and end - 1 > start:
            pieces.append(word[start : end - 1])
            start = end - 1
    return [*pieces, word[start:]]


def _shortened(text: str, wide: int | float, font: _Font) -> str:
    end = len(text)
    while end and font.getlength(f"{text[:end].rstrip()}…") > wide:
        end -= 1
    return f"{text[:end].rstrip()}…"


def _end_of(text: str, wide: int | float, font: _Font) -> str:
    """Return the text, or what fits of its end: ids often differ there alone."""
    start = 0
    while font.getlength("…" * (start > 0) + text[start:]) > wide:
        start += 1
    return "…" * (start > 0) + text[start:]


def _font(size: int, weight: str = "") -> _Font:
    return ImageFont.truetype(_FONTS / f"DejaVuSans{weight}.ttf", size)
