"""How victims are made and mended: loss, clean accuracy and attack success rate on the way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from clipmend.engine.job import Input
from clipmend.report.canvas import (
    DOUBLE,
    Panels,
    across,
    blank,
    fitted,
    key_below,
    key_height,
    label_bottoms,
    percent_ticks,
    styled,
)
from clipmend.report.order import (
    UNDEFENDED,
    Victim,
    attack_order,
    inputs_of,
    method_order,
    objective_order,
    titles,
    victim_of,
    victim_order,
)
from clipmend.report.palette import Look, attack_look, look
from clipmend.report.table import method_label

CAPTION = (
    "Above: loss on the training pairs, clean accuracy and attack success rate on the validation "
    "images over the epochs of pretraining, a row per objective. Below: clean accuracy and attack "
    "success rate on the validation images over the steps of each repair, a panel per poisoned "
    "victim; every repair starts from the same victim. A line per seed."
)
_RATES = (("clean_accuracy", "Clean accuracy"), ("attack_success_rate", "Attack success rate"))
_GREY = "#333333"


@dataclass(frozen=True)
class Curve:
    """A model's ``curve.csv``; ``method`` is ``none`` for the victim itself."""

    victim: Victim
    method: str
    points: pd.DataFrame


def read_curves(inputs: Mapping[str, Input]) -> list[Curve]:
    """Return the curves of every victim and repair, in the report's order."""
    curves = []
    for given in inputs_of(inputs, "pretrain", "unlearn", "baselines"):
        path = given.folder / "curve.csv"
        if path.is_file():
            method = UNDEFENDED if given.stage == "pretrain" else given.method
            curves.append(Curve(victim_of(given.cell), method, pd.read_csv(path)))
    return sorted(
        curves, key=lambda curve: (victim_order(curve.victim), method_order(curve.method))
    )


@styled
def draw_curves(curves: Sequence[Curve], *, controls: frozenset[str] = frozenset()) -> Figure:
    """Draw the victims' pretraining above the repairs' steps."""
    trained = [curve for curve in curves if curve.method == UNDEFENDED]
    mended = _mended(curves)
    if not trained and not mended:
        return blank("Nothing was trained in this grid.")
    heights = [_trained_height(trained), _mended_height(mended)]
    drawn = [height for height in heights if height]
    figure = Figure(figsize=(DOUBLE, sum(drawn)), layout="constrained")
    parts = iter(figure.subfigures(len(drawn), 1, height_ratios=drawn, squeeze=False).flat)
    if trained:
        _draw_trained(next(parts), trained)
    if mended:
        _draw_mended(next(parts), mended, controls)
    return figure


def _mended(curves: Iterable[Curve]) -> list[Curve]:
    repairs = [curve for curve in curves if curve.method != UNDEFENDED]
    return [curve for curve in repairs if curve.victim.is_poisoned] or repairs


def _objectives(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    found = {(curve.victim.corpus, curve.victim.objective) for curve in curves}
    return sorted(found, key=lambda place: (place[0], objective_order(place[1])))


def _trained_height(curves: Sequence[Curve]) -> float:
    rows = len(_objectives(curves))
    return 1.25 * rows + 0.5 + key_height(_attack_keys(curves), DOUBLE) if curves else 0.0


def _draw_trained(part: SubFigure, curves: Sequence[Curve]) -> None:
    rows = _objectives(curves)
    panels = part.subplots(len(rows), 3, squeeze=False, sharex=True)
    several = len({corpus for corpus, _ in rows}) > 1
    for row, (corpus, objective) in enumerate(rows):
        ours = [
            curve
            for curve in curves
            if (curve.victim.corpus, curve.victim.objective) == (corpus, objective)
        ]
        for axes, (metric, name) in zip(panels[row], (("loss", "Loss"), *_RATES), strict=True):
            for curve in ours:
                _line(axes, curve, "epoch", metric)
            axes.set_title(name if row == 0 else "")
            _fractions(axes, metric)
        panels[row, 0].set_ylabel(f"{corpus}, {objective}" if several else objective)
    part.suptitle("Pretraining", fontsize=9, x=0.01, ha="left")
    label_bottoms(panels, "Epoch")
    key_below(part, _attack_keys(curves), DOUBLE)


def _mended_height(curves: Sequence[Curve]) -> float:
    if not curves:
        return 0.0
    groups = len({curve.victim for curve in _any_seed(curves)})
    keys = _method_keys(curves, frozenset())
    return 2.5 * ceil(groups / across(groups)) + 0.5 + key_height(keys, DOUBLE)


def _draw_mended(part: SubFigure, curves: Sequence[Curve], controls: frozenset[str]) -> None:
    grouped = _any_seed(curves)
    title = titles(curve.victim for curve in grouped)
    victims = sorted(title, key=victim_order)
    columns = across(len(victims))
    blocks = -(-len(victims) // columns)
    panels = part.subplots(2 * blocks, columns, squeeze=False, sharex=True, sharey="row")
    for place, victim in enumerate(victims):
        block, column = divmod(place, columns)
        for below, (metric, name) in enumerate(_RATES):
            axes = panels[2 * block + below, column]
            for curve in (curve for curve in grouped if curve.victim == victim):
                _line(axes, curve, "step", metric)
            axes.set_ylabel("" if column else name)
            _fractions(axes, metric)
        panels[2 * block, column].set_title(fitted(title[victim], columns))
    label_bottoms(panels, "Step")
    _stretch(panels, curves)
    part.suptitle("Repair", fontsize=9, x=0.01, ha="left")
    key_below(part, _method_keys(curves, controls), DOUBLE)


def _any_seed(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves with every seed called 0: seeds of a victim share a panel."""
    return [
        Curve(
            Victim(curve.victim.corpus, curve.victim.attack, curve.victim.objective, 0),
            curve.method,
            curve.points,
        )
        for curve in curves
    ]


def _line(axes: Axes, curve: Curve, x: str, metric: str) -> None:
    style = look(curve.method)
    if curve.method == UNDEFENDED:
        shape = attack_look(curve.victim.attack)
        style = Look(_GREY, shape.marker, shape.dash)
    draw_line(axes, curve.points.dropna(subset=[metric]), x=x, metric=metric, style=style)


def draw_line(axes: Axes, points: pd.DataFrame, *, x: str, metric: str, style: Look) -> None:
    """Draw one column of a curve over another, with a few markers."""
    axes.plot(
        points[x],
        points[metric],
        color=style.color,
        marker=style.marker,
        linestyle=style.dash,
        markersize=2.8,
        markevery=max(1, len(points) // 5),
        linewidth=1,
    )


def _fractions(axes: Axes, metric: str) -> None:
    if metric == "loss":
        return
    percent_ticks(axes, y=True)
    if metric == "attack_success_rate":
        axes.set_ylim(-0.04, 1.04)


def _stretch(panels: Panels, curves: Sequence[Curve]) -> None:
    """Spread the first steps out: repairs differ in length by orders of magnitude."""
    # A repair that found nothing to mend has its start alone.
    steps = {int(step) for curve in curves for step in curve.points["step"] if step > 0} or {1}
    first, last = min(steps), max(steps)
    tens = [10**power for power in range(9) if first <= 10**power <= last]
    for axes in panels.flat:
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.set_xticks([0, *tens], map(str, [0, *tens]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.2 * first, 1.25 * last)


def _method_keys(curves: Sequence[Curve], controls: frozenset[str]) -> list[Line2D]:
    methods = sorted({curve.method for curve in curves}, key=method_order)
    return [
        Line2D(
            [],
            [],
            color=look(method).color,
            marker=look(method).marker,
            linestyle=look(method).dash,
            markersize=4,
            label=method_label(method, control=method in controls),
        )
        for method in methods
    ]


def _attack_keys(curves: Sequence[Curve]) -> list[Line2D]:
    attacks = sorted({curve.victim.attack for curve in curves}, key=attack_order)
    return [
        Line2D(
            [],
            [],
            color=_GREY,
            marker=attack_look(attack).marker,
            linestyle=attack_look(attack).dash,
            markersize=4,
            label=attack,
        )
        for attack in attacks
    ]
