"""A contact sheet of the most suspect pairs, with the renderer of the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.image import imread

from clipmend.data.splits import Pairs
from clipmend.data.words import bare
from clipmend.report.sheet import COLUMNS, Tile, draw_sheet, height

LISTED = 64
ACCENT = "#D55E00"
_WIDE, _HEAD = 10.0, 0.8  # inches: of the sheet, and of its title
_LONGEST = 20  # letters of an id that fit on a tile beside the rank
_FRAME = "#D0D0D0"
_TEXT: dict[str, Any] = {"va": "top", "parse_math": False, "wrap": True}


def draw(
    pairs: Pairs, *, title: str, note: str, word: str, triggers: Sequence[Path] = ()
) -> Figure:
    """Return a figure with each image, its rank from 1, its id, and its caption.

    Args:
        pairs: the most suspect first.
        title: the finding, in a sentence.
        note: where these pairs come from.
        word: in color wherever a caption has it; "" without a finding.
        triggers: pictures of the estimated triggers, shown in the upper right corner.
    """
    tiles = [
        Tile(
            image.permute(1, 2, 0).numpy(),
            tuple((part, bool(word) and bare(part) == word) for part in caption.split()),
            _FRAME,
        )
        for image, caption in zip(pairs.images[:], pairs.captions, strict=True)
    ]
    tall = height(tiles, _WIDE)
    figure = Figure(figsize=(_WIDE, tall + _HEAD), dpi=150)
    axes = figure.add_axes((0, 0, 1, tall / (tall + _HEAD)))
    draw_sheet(axes, tiles, _WIDE, color=ACCENT)
    # The renderer of the report has no ranks and ids: they are added on the tiles.
    column, row = _WIDE / COLUMNS, tall / -(-len(tiles) // COLUMNS)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for index, name in enumerate(pairs.ids):
        left, top = index % COLUMNS * column, index // COLUMNS * row
        text = f"{index + 1}  {ending(name)}"
        axes.text(left + 0.12, top + 0.06, text, size=6, va="top", bbox=box, parse_math=False)
    figure.text(0.01, 1 - 0.15 / (tall + _HEAD), title, size=12, weight="bold", **_TEXT)
    figure.text(0.01, 1 - 0.6 / (tall + _HEAD), note, size=8, color="#767676", **_TEXT)
    wide, high = 1.0, 0.5  # inches of a picture, which shows a trigger and its place
    for number, path in enumerate(triggers, 1):
        left, bottom = 1 - number * (wide + 0.1) / _WIDE, 1 - (high + 0.1) / (tall + _HEAD)
        inset = figure.add_axes((left, bottom, wide / _WIDE, high / (tall + _HEAD)))
        inset.imshow(imread(path), interpolation="nearest")
        inset.set_axis_off()
    return figure


def ending(name: str) -> str:
    """Return an id in one line, or its end if it is long: paths differ at their ends."""
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST else f"…{line[1 - _LONGEST :]}"
