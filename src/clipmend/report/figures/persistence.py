"""The attack success rate (ASR) that each repair leaves of each attack, as a grid of squares."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmend.report import style
from clipmend.report.cells import ATTACK, groups
from clipmend.report.order import UNDEFENDED, attack_order, is_poisoned, method_order
from clipmend.report.results import Results

TITLE = "What repairs leave of attacks"
CAPTION = (
    "Attack success rate, in percent, that each repair leaves of each attack: means over seeds. "
    "The first column is the undefended victim; controls are left out. Each number is over "
    "n_triggered images of cells.csv for each of the n_seeds victims of table.csv."
)
EMPTY = "No poisoned victim of this grid was repaired."
_DARK = 0.55  # the ASR above which numbers are printed in white
_CELL = 0.36, 0.22  # the width and height of a square, in inches


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot one panel per corpus and objective: triggers down, repairs across."""
    means = results.means[~results.means["method"].isin(results.left_out)]
    rows = means[means["attack"].map(is_poisoned) & ~means["control"].astype(bool)]
    rows = rows[rows.groupby(["corpus", "objective"])["method"].transform("nunique") > 1]
    if rows.empty:
        return None
    panels = [(names, _rates(part)) for names, part in groups(rows, "corpus", "objective")]
    high = sum(_CELL[1] * len(rates) + 1.25 for _, rates in panels)
    most = max(len(rates.columns) for _, rates in panels)
    figure = Figure(
        figsize=(min(style.DOUBLE, max(style.SINGLE, 1.3 + _CELL[0] * most)), high),
        layout="constrained",
    )
    ratios = [len(rates) + 3 for _, rates in panels]
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)
    for axes, ((corpus, objective), rates) in zip(grid.flat, panels, strict=True):
        _plot_panel(axes, rates)
        axes.set_title(f"{corpus}, {objective}", loc="left")
    return figure


def _rates(means: pd.DataFrame) -> pd.DataFrame:
    """Return the ASR by trigger and method, both in the order of the report."""
    rates = means.pivot_table(index="trigger", columns="method", values=ATTACK, aggfunc="mean")
    rows = sorted(rates.index, key=lambda name: attack_order(str(name)))
    columns = sorted(rates.columns, key=lambda name: (name != UNDEFENDED, method_order(str(name))))
    return rates.loc[rows, columns]


def _plot_panel(axes: Axes, rates: pd.DataFrame) -> None:
    values = rates.to_numpy(dtype=float)
    axes.imshow(np.ma.masked_invalid(values), cmap="Greys", vmin=0, vmax=1.15, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if value > _DARK else "black"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, size=7)
    names = list(rates.columns)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rates)), list(rates.index))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
