"""Loss, clean accuracy and attack success rate while victims are trained and repaired."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullLocator

from clipmend.report import order, style
from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.findings import Curve
from clipmend.report.results import Results
from clipmend.report.table import method_label

TITLE = "Curves"
CAPTION = (
    "Above: loss on the training pairs, clean accuracy and attack success rate on the validation "
    "images over the epochs of pretraining, one row per objective. Below: clean accuracy and "
    "attack success rate on the validation images over the steps of each repair, one panel per "
    "poisoned victim. Every repair starts from the same victim. There is one line per seed. The "
    "validation images, n_clean and n_triggered in each curve.csv, are the same for all models, "
    "and none of them is a test image of the tables."
)
EMPTY = "No model of this grid was trained."
_RATES = {CLEAN: "Clean accuracy", ATTACK: "Attack success rate"}


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot the pretraining of the victims above the steps of the repairs."""
    curves = [curve for curve in results.curves if curve.method not in results.left_out]
    trained = [curve for curve in curves if curve.method == order.UNDEFENDED]
    repaired = [curve for curve in curves if curve.method != order.UNDEFENDED]
    repaired = [one for one in repaired if order.is_poisoned(one.victim.attack)] or repaired
    # Seeds of a victim share a panel, so all of them are called seed 0 here.
    repaired = [replace(one, victim=replace(one.victim, seed=0)) for one in repaired]
    parts = []
    if trained:
        attacks = sorted({curve.victim.attack for curve in trained}, key=order.attack_order)
        keys = [style.key(name, markersize=4, **style.attack_look(name).line) for name in attacks]
        parts.append(("Pretraining", trained, keys, 1.25 * len(_objectives(trained))))
    if repaired:
        names = sorted({curve.method for curve in repaired}, key=order.method_order)
        labels = {name: method_label(name, control=name in results.controls) for name in names}
        keys = [style.key(labels[n], markersize=4, **style.look(n).line) for n in names]
        rows = style.panel_rows(len({curve.victim for curve in repaired}))
        parts.append(("Repair", repaired, keys, 2.5 * rows))
    if not parts:
        return None
    heights = [high + 0.5 + style.key_height(keys, style.DOUBLE) for *_, keys, high in parts]
    figure = Figure(figsize=(style.DOUBLE, sum(heights)), layout="constrained")
    figures = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).flat
    for subfigure, (title, shown, keys, _) in zip(figures, parts, strict=True):
        subfigure.suptitle(title, fontsize=9, x=0.01, ha="left")
        (_plot_repaired if shown is repaired else _plot_trained)(subfigure, shown)
        style.key_below(subfigure, keys, style.DOUBLE)
    return figure


def _objectives(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    rows = {(curve.victim.corpus, curve.victim.objective) for curve in curves}
    return sorted(rows, key=lambda row: (row[0], order.objective_order(row[1])))


def _plot_trained(part: SubFigure, curves: Sequence[Curve]) -> None:
    rows = _objectives(curves)
    grid = part.subplots(len(rows), 3, squeeze=False, sharex=True)
    several = len({corpus for corpus, _ in rows}) > 1
    for panels, (corpus, objective) in zip(grid, rows, strict=True):
        own = [c for c in curves if (c.victim.corpus, c.victim.objective) == (corpus, objective)]
        lines = [(curve, style.attack_look(curve.victim.attack)) for curve in own]
        for axes, metric in zip(panels, ("loss", *_RATES), strict=True):
            _plot_lines(axes, lines, "epoch", metric)
        panels[0].set_ylabel(f"{corpus}, {objective}" if several else objective)
    for axes, name in zip(grid[0], ("Loss", *_RATES.values()), strict=True):
        axes.set_title(name)
    style.label_bottoms(grid, "Epoch")


def _plot_repaired(part: SubFigure, curves: Sequence[Curve]) -> None:
    title = order.titles(curve.victim for curve in curves)
    columns = style.column_count(len(title))
    grid, stacks = style.split(part, len(title), stacked=2)
    for number, (stack, victim) in enumerate(
        zip(stacks, sorted(title, key=order.victim_order), strict=True)
    ):
        lines = [(curve, style.look(curve.method)) for curve in curves if curve.victim == victim]
        for axes, (metric, name) in zip(stack, _RATES.items(), strict=True):
            _plot_lines(axes, lines, "step", metric)
            axes.set_ylabel("" if number % columns else name)
        stack[0].set_title(style.fitted(title[victim], columns))
    style.label_bottoms(grid, "Step")
    # Repairs differ in length by orders of magnitude. A repair that found nothing has its start
    # alone, at step 0.
    steps = {int(step) for curve in curves for step in curve.points["step"] if step > 0} or {1}
    first, last = min(steps), max(steps)
    tens = [10**power for power in range(9) if first <= 10**power <= last]
    for axes in grid.flat:
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.set_xticks([0, *tens], map(str, [0, *tens]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.2 * first, 1.25 * last)


def _plot_lines(axes: Axes, lines: Iterable[tuple[Curve, style.Look]], x: str, metric: str) -> None:
    for curve, look in lines:
        plot_line(axes, curve.points, x=x, metric=metric, line=look)
    if metric in _RATES:
        style.percent_ticks(axes, y=True)
    if metric == ATTACK:
        axes.set_ylim(-0.04, 1.04)


def plot_line(axes: Axes, points: pd.DataFrame, *, x: str, metric: str, line: style.Look) -> None:
    """Plot one column of a curve over another, with a few markers."""
    known = points.dropna(subset=[metric])
    every = max(1, len(known) // 5)
    axes.plot(known[x], known[metric], **line.line, markersize=2.8, markevery=every, linewidth=1)
