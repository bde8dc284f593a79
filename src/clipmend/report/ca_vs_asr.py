"""Clean accuracy against attack success rate: the trade that every repair makes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Wedge

from clipmend.report.canvas import (
    across,
    blank,
    key_below,
    key_height,
    label_bottoms,
    percent_ticks,
    styled,
    width,
)
from clipmend.report.cells import controls_of, groups, records
from clipmend.report.order import UNDEFENDED, attack_order, method_order
from clipmend.report.palette import attack_look, look
from clipmend.report.table import method_label

CAPTION = (
    "Clean accuracy against attack success rate, a point per evaluated cell and a panel per "
    "objective. Color tells the method, shape the attack on its victim; open points are controls, "
    "which use what no defender has. The best corner, every clean image right and no attack "
    "successful, is shaded. The horizontal axis is logarithmic from 1 % on, since most repairs end "
    "below. Bars are Wilson intervals over the test images."
)
_BEST = "#D9EAD3"
_EVEN = 0.01  # the ASR up to which the horizontal axis is linear
_TICKS = (0, 0.01, 0.1, 1)


@styled
def draw_ca_vs_asr(cells: pd.DataFrame) -> Figure:
    """Draw one point per row of ``cells.csv``, a panel per corpus and objective."""
    if cells.empty:
        return blank("No cell has been evaluated.")
    shown = groups(cells, "corpus", "objective")
    columns = across(len(shown))
    rows = -(-len(shown) // columns)
    keys = _key(cells)
    wide = width(columns)
    height = 2.5 * rows + key_height(keys, wide)
    figure = Figure(figsize=(wide, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, ((corpus, objective), group) in zip(panels.flat, shown, strict=False):
        _panel(axes, group)
        axes.set_title(objective if cells["corpus"].nunique() == 1 else f"{corpus}, {objective}")
    label_bottoms(panels, "Attack success rate (lower is better)")
    for axes in panels[:, 0]:
        axes.set_ylabel("Clean accuracy (higher is better)")
    _frame(panels[0, 0], cells)
    key_below(figure, keys, wide)
    return figure


def _panel(axes: Axes, cells: pd.DataFrame) -> None:
    # A corner of the panel, not of the data: it must not move with the axis limits.
    axes.add_patch(Wedge((0, 1), 0.16, -90, 0, transform=axes.transAxes, color=_BEST, zorder=0))
    for row in sorted(records(cells), key=_layer):
        color = look(row["method"]).color
        x, y = row["attack_success_rate"], row["clean_accuracy"]
        axes.errorbar(
            x,
            y,
            xerr=[[x - row["attack_success_rate_low"]], [row["attack_success_rate_high"] - x]],
            yerr=[[y - row["clean_accuracy_low"]], [row["clean_accuracy_high"] - y]],
            fmt=attack_look(row["attack"]).marker,
            color=color,
            markersize=_size(row),
            markerfacecolor="white" if row["control"] else color,
            markeredgecolor=color if row["control"] else "white",
            markeredgewidth=1.1 if row["control"] else 0.5,
            elinewidth=0.7,
        )
    axes.set_xscale("symlog", linthresh=_EVEN)
    axes.set_xticks(_TICKS, minor=False)
    axes.set_xticks([], minor=True)
    percent_ticks(axes, x=True, y=True)


def _layer(row: Mapping[str, Any]) -> int:
    """Return where a point is drawn: victims at the back, controls before them, then repairs."""
    return 0 if row["method"] == UNDEFENDED else 1 if row["control"] else 2


def _size(row: Mapping[str, Any]) -> float:
    """Return a point's size: a victim is seen behind a repair that leaves it as it is."""
    size = 5.5 if row["attack"] == row["trigger"] else 4.0
    return size + 2.5 if row["method"] == UNDEFENDED else size


def _frame(axes: Axes, cells: pd.DataFrame) -> None:
    low = min(cells["clean_accuracy"].min(), cells["clean_accuracy_low"].min())
    high = max(cells["clean_accuracy"].max(), cells["clean_accuracy_high"].max())
    room = max(0.08 * (high - low), 0.01)
    axes.set(xlim=(-0.0015, 1.3), ylim=(low - room, high + room))


def _key(cells: pd.DataFrame) -> list[Line2D]:
    controls = controls_of(cells)
    methods = sorted(set(cells["method"]), key=method_order)
    attacks = sorted(set(cells["attack"]), key=attack_order)
    return [
        *(_method_key(method, control=method in controls) for method in methods),
        *_attack_keys(attacks),
        Line2D(
            [], [], color=_BEST, marker="s", markersize=8, linestyle="none", label="best corner"
        ),
    ]


def _method_key(method: str, *, control: bool) -> Line2D:
    color = look(method).color
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o",
        markersize=5.5,
        color=color,
        markerfacecolor="white" if control else color,
        label=method_label(method, control=control),
    )


def _attack_keys(attacks: Sequence[str]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=attack_look(attack).marker,
            markersize=5.5,
            color="#777777",
            label=attack,
        )
        for attack in attacks
    ]
