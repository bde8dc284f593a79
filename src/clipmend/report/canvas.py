"""The paper that figures are drawn on: one style, two column widths, the same bytes every time."""

from collections.abc import Callable, Sequence
from functools import wraps
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL import Image

SINGLE, DOUBLE = 3.3, 6.8  # inches: the columns of a two-column paper
MOST_ACROSS = 4
_LETTER = 0.064  # inches, the mean letter at 8 points

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "clipmend",  # else every SVG draws its ids at random
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}

Given = ParamSpec("Given")
Panels = np.ndarray[Any, np.dtype[Any]]


def styled(draw: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Return ``draw`` in the report's style, whatever the reader's own matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return drawn


def save(figure: Figure, folder: Path, name: str, *, colors: int | None = None) -> None:
    """Write ``<name>.svg`` and ``<name>.png``, without the time or the program that made them.

    Args:
        colors: of the PNG, at most 256, which makes one with many images a third as large; all
            that there are if None.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        nothing: dict[str, Any] = {"Date": None, "Creator": None}
        figure.savefig(folder / f"{name}.svg", metadata=nothing)
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    if colors is not None:
        _reduce(folder / f"{name}.png", colors)


def _reduce(path: Path, colors: int) -> None:
    with Image.open(path) as picture:
        resolution = picture.info["dpi"]
        # Maximum coverage moves no color far; the median cut would drop those of thin lines.
        reduced = picture.convert("RGB").quantize(colors, Image.Quantize.MAXCOVERAGE)
    reduced.save(path, dpi=resolution, optimize=True)


def blank(message: str) -> Figure:
    """Return a small figure that says why there is nothing to draw."""
    figure = Figure(figsize=(SINGLE, 0.8))
    figure.text(0.5, 0.5, message, ha="center", va="center", color="#555555", wrap=True)
    return figure


def across(panels: int) -> int:
    """Return how many panels stand side by side: at most four, and no row nearly empty."""
    return ceil(panels / ceil(panels / MOST_ACROSS))


def width(columns: int) -> float:
    """Return the width of a figure of so many panels side by side, in inches."""
    return SINGLE if columns == 1 else DOUBLE


def fitted(title: str, columns: int, wide: float | None = None) -> str:
    """Return the title on as many lines as a panel that shares the width with others needs.

    Args:
        wide: the figure's width, in inches; None: what ``width`` says.
    """
    inches = (width(columns) if wide is None else wide) / columns - 0.25
    return "\n".join(wrap(title, max(16, int(inches / _LETTER))))


def label_bottoms(panels: Panels, name: str) -> None:
    """Name the horizontal axis under the lowest drawn panel of each column; hide empty panels.

    Panels that share an axis would print no ticks above an empty one. A label of the whole
    figure would not do: the layout puts it where the legend is.
    """
    for column in panels.T:
        drawn = [axes for axes in column if axes.has_data()]
        for axes in column:
            if axes not in drawn:
                axes.set_axis_off()
        if drawn:
            drawn[-1].tick_params(labelbottom=True)
            drawn[-1].set_xlabel(name)


def percent_ticks(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Print an axis of fractions in percent."""
    for axis, wanted in ((axes.xaxis, x), (axes.yaxis, y)):
        if wanted:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def key_below(figure: Figure | SubFigure, handles: Sequence[Line2D], wide: float) -> None:
    """Put the legend under the panels, where it can hide no data."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=_key_columns(handles, wide),
        handlelength=2.6,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def key_height(handles: Sequence[Line2D], wide: float) -> float:
    """Return the room that such a legend takes under a figure of this width, in inches."""
    return 0.2 + 0.165 * ceil(len(handles) / _key_columns(handles, wide))


def _key_columns(handles: Sequence[Line2D], wide: float) -> int:
    letters = max(len(str(handle.get_label())) for handle in handles)
    fit = max(1, int(wide / (0.5 + _LETTER * letters)))
    return ceil(len(handles) / ceil(len(handles) / fit))
