"""What each repair leaves of each attack."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmend.report.canvas import DOUBLE, SINGLE, blank, styled
from clipmend.report.cells import groups
from clipmend.report.order import UNDEFENDED, attack_order, is_poisoned, method_order
from clipmend.report.table import ATTACK

CAPTION = (
    "Attack success rate, in percent, that each repair leaves of each attack: means over seeds. "
    "The first column is the undefended victim; controls are left out."
)
_DARK = 0.55  # an ASR from which figures are printed in white
_CELL = 0.36, 0.22  # inches a cell is wide and high


@styled
def draw_persistence(table: pd.DataFrame) -> Figure:
    """Draw a panel per corpus and objective: triggers down, repairs across.

    Args:
        table: ``table.csv``.
    """
    shown = table[table["attack"].map(is_poisoned) & ~table["control"].astype(bool)]
    repaired = shown.groupby(["corpus", "objective"])["method"].transform("nunique") > 1
    shown = shown[repaired]
    if shown.empty:
        return blank("No poisoned victim of this grid was repaired.")
    panels = groups(shown, "corpus", "objective")
    sizes = [_grid(group).shape for _, group in panels]
    high = sum(_CELL[1] * rows + 1.25 for rows, _ in sizes)
    wide = min(DOUBLE, max(SINGLE, 1.3 + _CELL[0] * max(columns for _, columns in sizes)))
    figure = Figure(figsize=(wide, high), layout="constrained")
    ratios = [rows + 3 for rows, _ in sizes]
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)
    for panel, ((corpus, objective), group) in zip(axes.flat, panels, strict=True):
        _draw(panel, _grid(group))
        panel.set_title(f"{corpus}, {objective}", loc="left")
    return figure


def _grid(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the ASR by trigger and method, both in the report's order."""
    grid = cells.pivot_table(index="trigger", columns="method", values=ATTACK, aggfunc="mean")
    rows = sorted(grid.index, key=lambda name: attack_order(str(name)))
    columns = sorted(grid.columns, key=lambda name: (name != UNDEFENDED, method_order(str(name))))
    return grid.loc[rows, columns]


def _draw(panel: Axes, grid: pd.DataFrame) -> None:
    values = grid.to_numpy(dtype=float)
    panel.imshow(np.ma.masked_invalid(values), cmap="Greys", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if value > _DARK else "black"
            panel.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", color=color, size=7
            )
    panel.set_xticks(
        range(len(grid.columns)),
        list(grid.columns),
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    panel.set_yticks(range(len(grid.index)), list(grid.index))
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)
