"""How figures look: one style, one color and marker per method, one grid of panels, equal bytes."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, wraps
from hashlib import sha256
from importlib.resources import files
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.style import use as use_style
from matplotlib.ticker import FuncFormatter
from PIL import Image

from clipmend.methods.table import base

PACKAGE_DATA = ("report.mplstyle", "looks.csv")
SINGLE, DOUBLE = 3.3, 6.8  # inches: the columns of a two-column paper
GRAY = "#555555"
_FOLDER = files("clipmend.report")
_LETTER = 0.064  # inches, the mean width of a letter at 8 points

Dash = Literal["solid"] | tuple[int, tuple[int | float, ...]]
Panels = np.ndarray[Any, np.dtype[Any]]
Args = ParamSpec("Args")
Result = TypeVar("Result")

# Groups of training pairs, by the truth and by what a defender takes them for.
CLEAN, POISONED = "#0072B2", "#D55E00"
CHOSEN, SUSPECT, OTHER = "#882255", "#E69F00", "#8C8C8C"

_SHADES = {"random": 0.45, "oracle": -0.5}
_OTHER_SHADES = (-0.3, 0.3, -0.6, 0.6)


@dataclass(frozen=True)
class Look:
    """The color, marker and dashes of a line."""

    color: str
    marker: str
    dash: Dash = "solid"

    @property
    def line(self) -> dict[str, Any]:
        """The look as arguments of ``plot`` and ``Line2D``."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.dash}


@cache
def _looks(kind: str) -> dict[str, Look]:
    """Return the looks of a kind in ``looks.csv``, by name."""
    # The colors of Okabe and Ito, then Tol's "muted" ones: distinct under every common color
    # blindness. Okabe and Ito's yellow is left out, since it is invisible on white paper. No two
    # repairs share a color, and no two detectors do. A repair and a detector may, since no figure
    # shows both; PUD is both, so it has a color of its own.
    looks = {}
    for row in csv.DictReader(_FOLDER.joinpath("looks.csv").read_text("utf-8").splitlines()):
        if row["kind"] == kind:
            lengths = tuple(float(length) for length in row["dash"].split())
            dash: Dash = (0, lengths) if lengths else "solid"
            looks[row["name"]] = Look(row["color"], row["marker"], dash)
    return looks


def look(method: str) -> Look:
    """Return the look of a method. A variant has the hue of its base, another shade and dashes."""
    root, _, variant = method.partition("@")
    plain = _looks("method").get(root) or _by_name(root, list(_looks("other_method").values()))
    if not variant:
        return plain
    shade = _SHADES.get(variant) or _by_name(variant, _OTHER_SHADES)
    # On the way to white for a positive shade, to black for a negative one.
    end = 255 if shade > 0 else 0
    channels = (int(plain.color[at : at + 2], 16) for at in (1, 3, 5))
    shaded = "".join(f"{round(old + (end - old) * abs(shade)):02X}" for old in channels)
    return Look(f"#{shaded}", plain.marker, (0, (4, 1.5)) if shade > 0 else (0, (1.5, 1)))


def attack_look(attack: str, color: str = "#333333") -> Look:
    """Return the look of an attack, which its variants share, in a given color."""
    root = base(attack).partition(".")[0]  # `multi.badnet` is one trigger of `multi`
    own = _looks("attack").get(root) or _by_name(root, list(_looks("other_attack").values()))
    return replace(own, color=color)


def _by_name(name: str, looks: Sequence[Result]) -> Result:
    """Return a choice that depends on the name alone: it stays when other methods come and go."""
    return looks[int.from_bytes(sha256(name.encode()).digest()[:4], "big") % len(looks)]


def styled(plot: Callable[Args, Result]) -> Callable[Args, Result]:
    """Return ``plot`` in the style of the report, whatever the reader's matplotlibrc says."""

    @wraps(plot)
    def plot_in_style(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        with mpl.rc_context():
            mpl.rcdefaults()
            use_style(str(_FOLDER.joinpath("report.mplstyle")))
            return plot(*args, **kwargs)

    return plot_in_style


@styled
def save(figure: Figure, folder: Path, name: str, *, colors: int | None = None) -> None:
    """Write ``<name>.svg`` and ``<name>.png``, without a time or the name of a program.

    Args:
        colors: the number of colors of the PNG, at most 256; None keeps all. A PNG with many
            images is a third as large with 256.
    """
    nothing: dict[str, Any] = {"Date": None, "Creator": None}
    figure.savefig(folder / f"{name}.svg", metadata=nothing)
    path = folder / f"{name}.png"
    figure.savefig(path, metadata={"Software": None})
    if colors is not None:
        with Image.open(path) as picture:
            resolution = picture.info["dpi"]
            # Maximum coverage keeps every color close; median cut would drop those of thin lines.
            reduced = picture.convert("RGB").quantize(colors, Image.Quantize.MAXCOVERAGE)
        reduced.save(path, dpi=resolution, optimize=True)


@styled
def blank(message: str) -> Figure:
    """Return a small figure that says why there is nothing to plot."""
    figure = Figure(figsize=(SINGLE, 0.8))
    figure.text(0.5, 0.5, message, ha="center", va="center", color=GRAY, wrap=True)
    return figure


def column_count(panels: int) -> int:
    """Return how many panels stand side by side: at most four, and no row nearly empty."""
    return ceil(panels / ceil(panels / 4))


def panel_rows(panels: int) -> int:
    """Return the number of rows that so many panels need."""
    return ceil(panels / column_count(panels))


def panel_grid(
    panels: int, keys: Sequence[Line2D], *, pitch: float, extra: float = 0.0, stacked: int = 1
) -> tuple[Figure, Panels, list[list[Axes]]]:
    """Return a figure, its axes as a grid, and the axes of each panel from top to bottom.

    Args:
        keys: the legend, which stands below the panels.
        pitch: the height of a row of panels, in inches.
        extra: further height, in inches.
        stacked: the number of axes of a panel, one above the other.
    """
    columns = column_count(panels)
    wide = SINGLE if columns == 1 else DOUBLE
    height = pitch * panel_rows(panels) + extra + key_height(keys, wide)
    figure = Figure(figsize=(wide, height), layout="constrained")
    key_below(figure, keys, wide)
    return figure, *split(figure, panels, stacked)


def split(part: Figure | SubFigure, panels: int, stacked: int) -> tuple[Panels, list[list[Axes]]]:
    """Return a part's axes as a grid, and those of each panel from top to bottom."""
    columns = column_count(panels)
    shared: Any = True if stacked == 1 else "row"
    shape = stacked * panel_rows(panels), columns
    axes = part.subplots(*shape, squeeze=False, sharex=True, sharey=shared)
    places = (divmod(panel, columns) for panel in range(panels))
    return axes, [list(axes[stacked * row :, column][:stacked]) for row, column in places]


def fitted(title: str, columns: int, wide: float | None = None) -> str:
    """Return a title on as many lines as it needs above one of several panels.

    Args:
        columns: the number of panels side by side.
        wide: the width of the figure in inches; None for that of ``panel_grid``.
    """
    usual = SINGLE if columns == 1 else DOUBLE
    inches = (usual if wide is None else wide) / columns - 0.25
    return "\n".join(wrap(title, max(16, int(inches / _LETTER))))


def label_bottoms(panels: Panels, name: str) -> None:
    """Name the horizontal axis below the lowest plot of each column, and hide empty axes."""
    # Axes that share an axis print no ticks above an empty one. A label of the whole figure would
    # not do: the layout would put it where the legend is.
    for column in panels.T:
        filled = [axes for axes in column if axes.has_data()]
        for axes in set(column) - set(filled):
            axes.set_axis_off()
        if filled:
            filled[-1].tick_params(labelbottom=True)
            filled[-1].set_xlabel(name)


def percent_ticks(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Print the ticks of an axis of fractions in percent."""
    for axis, asked in ((axes.xaxis, x), (axes.yaxis, y)):
        if asked:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def key(label: str, **line: Any) -> Line2D:
    """Return an entry of a legend, with the properties of a line."""
    return Line2D([], [], label=label, **line)


def key_below(figure: Figure | SubFigure, keys: Sequence[Line2D], wide: float) -> None:
    """Put the legend below the panels, where it can hide no data."""
    figure.legend(
        handles=keys,
        loc="outside lower center",
        ncols=_key_columns(keys, wide),
        handlelength=2.6,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def key_height(keys: Sequence[Line2D], wide: float) -> float:
    """Return the height of a legend below a figure of this width; both in inches."""
    return 0.2 + 0.165 * ceil(len(keys) / _key_columns(keys, wide))


def _key_columns(keys: Sequence[Line2D], wide: float) -> int:
    letters = max(len(str(entry.get_label())) for entry in keys)
    fit = max(1, int(wide / (0.5 + _LETTER * letters)))
    return ceil(len(keys) / ceil(len(keys) / fit))
