"""How many poisoned pairs a detector finds at each rate of false alarms."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.metrics import roc_curve

from clipmend.report.canvas import (
    across,
    blank,
    fitted,
    key_below,
    key_height,
    label_bottoms,
    percent_ticks,
    styled,
    width,
)
from clipmend.report.detectors import Scored
from clipmend.report.order import titles, victim_order
from clipmend.report.palette import look

CAPTION = (
    "ROC curves of the detectors, a panel per poisoned victim: the share of its poisoned training "
    "pairs found (n = n_poisoned in detectors.csv) against the share of its clean training pairs "
    "that score as high (n = n_pairs - n_poisoned). The horizontal axis is logarithmic, since a "
    "detector is used where false alarms are few; the upright line is 1 % false alarms, the gray "
    "curve is chance."
)


@styled
def draw_detector_roc(scored: Sequence[Scored], *, log: bool = True) -> Figure:
    """Draw one curve per detector and poisoned victim.

    Args:
        scored: the scores of each detector on each victim; unpoisoned victims are passed over.
        log: whether the axis of false alarms is logarithmic.
    """
    shown = [one for one in scored if one.victim.is_poisoned and one.pairs["is_poisoned"].any()]
    if not shown:
        return blank("No detector has scored a poisoned victim.")
    title = titles(one.victim for one in shown)
    victims = sorted(title, key=victim_order)
    columns = across(len(victims))
    rows = -(-len(victims) // columns)
    keys = _key(shown)
    wide = width(columns)
    height = (1.75 if columns > 2 else 2.3) * rows + 0.2 + key_height(keys, wide)
    figure = Figure(figsize=(wide, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, victim in zip(panels.flat, victims, strict=False):
        _panel(axes, [one for one in shown if one.victim == victim])
        axes.set_title(fitted(title[victim], columns))
    label_bottoms(panels, "Clean pairs flagged")
    for axes in panels[:, 0]:
        axes.set_ylabel("Poisoned pairs found")
    _frame(panels[0, 0], shown, log=log)
    key_below(figure, keys, wide)
    return figure


def _panel(axes: Axes, scored: Sequence[Scored]) -> None:
    chance = np.logspace(-6, 0, 200)
    axes.plot(chance, chance, color="#AAAAAA", linewidth=0.8, zorder=1)
    axes.axvline(0.01, color="#555555", linestyle=(0, (2, 1.5)), linewidth=0.9)
    for one in sorted(scored, key=lambda one: one.method):
        false, true, _ = roc_curve(one.pairs["is_poisoned"], one.pairs["score"])
        style = look(one.method)
        axes.step(
            false, true, where="post", color=style.color, linestyle=style.dash, label=one.method
        )


def _frame(axes: Axes, scored: Sequence[Scored], *, log: bool) -> None:
    if log:
        # Left of one false alarm there is nothing: a curve cannot be told there.
        clean = max(int((~one.pairs["is_poisoned"]).sum()) for one in scored)
        axes.set_xscale("log")
        axes.set_xlim(min(0.5 / max(clean, 1), 0.005), 1.15)
    else:
        axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.03, 1.03)
    for panel in axes.figure.axes:
        percent_ticks(panel, x=True, y=True)


def _key(scored: Sequence[Scored]) -> list[Line2D]:
    methods = sorted({one.method for one in scored})
    return [
        *(
            Line2D([], [], color=look(method).color, linestyle=look(method).dash, label=method)
            for method in methods
        ),
        Line2D([], [], color="#AAAAAA", linewidth=0.8, label="chance"),
    ]
