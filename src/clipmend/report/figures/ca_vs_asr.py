"""Clean accuracy (CA) against attack success rate (ASR): what each repair gives up, and removes."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Wedge

from clipmend.report import style
from clipmend.report.cells import ATTACK, CLEAN, controls_of, groups, records
from clipmend.report.order import UNDEFENDED, attack_order, method_order
from clipmend.report.results import Results
from clipmend.report.table import method_label

TITLE = "CA against ASR"
CAPTION = (
    "Clean accuracy (CA) against attack success rate (ASR), one point per evaluated cell and one "
    "panel per objective. Color shows the method, shape the attack on the victim. Open points are "
    "controls, which use what no defender has. The best corner is shaded: every clean image right, "
    "no attack successful. The horizontal axis is logarithmic above 1 %, since most repairs end "
    "below that. Bars are Wilson intervals over the test images, n_clean and n_triggered in "
    "cells.csv."
)
EMPTY = "No cell has been evaluated."
_CORNER = "#D9EAD3"
_LINEAR = 0.01  # the ASR below which the horizontal axis is linear
_TICKS = (0, 0.01, 0.1, 1)


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot one point per evaluated cell, and one panel per corpus and objective."""
    cells = results.cells[~results.cells["method"].isin(results.left_out)]
    if cells.empty:
        return None
    panels = groups(cells, "corpus", "objective")
    figure, grid, stacks = style.panel_grid(len(panels), _keys(cells), pitch=2.5)
    for (axes,), ((corpus, objective), rows) in zip(stacks, panels, strict=True):
        # A corner of the panel, not of the data: it must not move with the limits of the axes.
        corner = Wedge((0, 1), 0.16, -90, 0, transform=axes.transAxes, color=_CORNER, zorder=0)
        axes.add_patch(corner)
        # Victims at the back, then controls, then repairs.
        layers = sorted(records(rows), key=lambda r: (r["method"] != UNDEFENDED, not r["control"]))
        for row in layers:
            _plot_point(axes, row)
        axes.set_xscale("symlog", linthresh=_LINEAR)
        axes.set_xticks(_TICKS, minor=False)
        axes.set_xticks([], minor=True)
        style.percent_ticks(axes, x=True, y=True)
        axes.set_title(objective if cells["corpus"].nunique() == 1 else f"{corpus}, {objective}")
    style.label_bottoms(grid, "Attack success rate (lower is better)")
    for axes in grid[:, 0]:
        axes.set_ylabel("Clean accuracy (higher is better)")
    low = min(cells[CLEAN].min(), cells[f"{CLEAN}_low"].min())
    high = max(cells[CLEAN].max(), cells[f"{CLEAN}_high"].max())
    room = max(0.08 * (high - low), 0.01)
    grid[0, 0].set(xlim=(-0.0015, 1.3), ylim=(low - room, high + room))
    return figure


def _plot_point(axes: Axes, row: Mapping[str, Any]) -> None:
    color, control = style.look(row["method"]).color, row["control"]
    x, y = row[ATTACK], row[CLEAN]
    # A larger point for a victim: it stays visible behind a repair that changed nothing.
    size = (5.5 if row["attack"] == row["trigger"] else 4.0) + 2.5 * (row["method"] == UNDEFENDED)
    axes.errorbar(
        x,
        y,
        xerr=[[x - row[f"{ATTACK}_low"]], [row[f"{ATTACK}_high"] - x]],
        yerr=[[y - row[f"{CLEAN}_low"]], [row[f"{CLEAN}_high"] - y]],
        fmt=style.attack_look(row["attack"]).marker,
        color=color,
        markersize=size,
        markerfacecolor="white" if control else color,
        markeredgecolor=color if control else "white",
        markeredgewidth=1.1 if control else 0.5,
        elinewidth=0.7,
    )


def _keys(cells: pd.DataFrame) -> list[Line2D]:
    controls = controls_of(cells)
    point: dict[str, Any] = {"linestyle": "none", "markersize": 5.5}
    keys = []
    for method in sorted(set(cells["method"]), key=method_order):
        color, control = style.look(method).color, method in controls
        face = "white" if control else color
        label = method_label(method, control=control)
        keys.append(style.key(label, marker="o", color=color, markerfacecolor=face, **point))
    for attack in sorted(set(cells["attack"]), key=attack_order):
        keys.append(style.key(attack, **style.attack_look(attack, "#777777").line | point))
    corner = style.key("best corner", color=_CORNER, marker="s", markersize=8, linestyle="none")
    return [*keys, corner]
