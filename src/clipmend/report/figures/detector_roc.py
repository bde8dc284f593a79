"""ROC (receiver operating characteristic): poisoned pairs found at each rate of false alarms."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from clipmend.report import style
from clipmend.report.detection import ScoredPairs
from clipmend.report.order import is_poisoned, titles, victim_order
from clipmend.report.results import Results

TITLE = "Detector ROC curves"
CAPTION = (
    "ROC curves of the detectors, one panel per poisoned victim: the share of its poisoned "
    "training pairs found (n = n_poisoned in detectors.csv) against the share of its clean "
    "training pairs that score as high (n = n_pairs - n_poisoned). A higher score is more "
    "suspect. The horizontal axis is logarithmic, since a detector is used where false alarms are "
    "few. The vertical line marks 1 % false alarms, the gray curve is chance. detectors.csv holds "
    "the area under each curve and its height at 1 % false alarms."
)
EMPTY = "No detector has scored a poisoned victim."
_CHANCE = "#AAAAAA"


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot one curve per detector and poisoned victim."""
    poisoned = [one for one in results.scored if is_poisoned(one.victim.attack)]
    scored = [one for one in poisoned if one.pairs["is_poisoned"].any()]
    if not scored:
        return None
    title = titles(one.victim for one in scored)
    methods = sorted({one.method for one in scored})
    looks = {name: style.look(name) for name in methods}
    keys = [style.key(name, color=one.color, linestyle=one.dash) for name, one in looks.items()]
    keys.append(style.key("chance", color=_CHANCE, linewidth=0.8))
    columns = style.column_count(len(title))
    pitch = 1.75 if columns > 2 else 2.3
    figure, grid, stacks = style.panel_grid(len(title), keys, pitch=pitch, extra=0.2)
    for (axes,), victim in zip(stacks, sorted(title, key=victim_order), strict=True):
        _plot_panel(axes, [one for one in scored if one.victim == victim])
        axes.set_title(style.fitted(title[victim], columns))
    style.label_bottoms(grid, "Clean pairs flagged")
    for axes in grid[:, 0]:
        axes.set_ylabel("Poisoned pairs found")
    # A curve carries no information to the left of one false alarm.
    clean = max(int((~one.pairs["is_poisoned"]).sum()) for one in scored)
    grid[0, 0].set_xscale("log")
    grid[0, 0].set(xlim=(min(0.5 / max(clean, 1), 0.005), 1.15), ylim=(-0.03, 1.03))
    for axes in figure.axes:
        style.percent_ticks(axes, x=True, y=True)
    return figure


def _plot_panel(axes: Axes, scored: list[ScoredPairs]) -> None:
    chance = np.logspace(-6, 0, 200)
    axes.plot(chance, chance, color=_CHANCE, linewidth=0.8, zorder=1)
    axes.axvline(0.01, color=style.GRAY, linestyle=(0, (2, 1.5)), linewidth=0.9)
    for one in sorted(scored, key=lambda one: one.method):
        false, true, _ = roc_curve(one.pairs["is_poisoned"], one.pairs["score"])
        line = style.look(one.method)
        axes.step(
            false, true, where="post", label=one.method, color=line.color, linestyle=line.dash
        )
