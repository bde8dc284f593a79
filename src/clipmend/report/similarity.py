"""What overfitting does to the similarity of image and caption, for clean and poisoned pairs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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

CAPTION = (
    "Cosine similarity of image and caption over the training pairs of each victim, before (above) "
    "and after (below) overfitting on the suspects. Each histogram holds the share of its own "
    "group, so that the few poisoned pairs (n = n_poisoned in detectors.csv) stand beside the many "
    "clean ones. Of several seeds the first is shown."
)
_CLEAN, _POISONED = "#0072B2", "#D55E00"
_MOMENTS = ("similarity_before", "similarity_after")
_BINS = 40


@styled
def draw_similarity(scored: Sequence[Scored]) -> Figure:
    """Draw two histograms per victim: before overfitting above, after it below."""
    shown = _first_of_each(scored)
    if not shown:
        return blank("No detector in this grid overfits.")
    title = titles(one.victim for one in shown)
    columns = across(len(shown))
    blocks = -(-len(shown) // columns)
    keys, wide = _key(), width(columns)
    height = 2.35 * blocks + 0.2 + key_height(keys, wide)
    figure = Figure(figsize=(wide, height), layout="constrained")
    panels = figure.subplots(2 * blocks, columns, squeeze=False, sharex=True, sharey="row")
    bins = _bins(shown)
    for place, one in enumerate(shown):
        block, column = divmod(place, columns)
        for below, moment in enumerate(_MOMENTS):
            axes = panels[2 * block + below, column]
            _histogram(axes, one.pairs, moment, bins)
            axes.set_ylabel("" if column else moment.removeprefix("similarity_"))
        panels[2 * block, column].set_title(fitted(title[one.victim], columns))
    label_bottoms(panels, "Cosine similarity")
    figure.supylabel("Share of the group's pairs", fontsize=8)
    key_below(figure, keys, wide)
    return figure


def _first_of_each(scored: Sequence[Scored]) -> list[Scored]:
    """Return one detector that overfits per corpus, attack and objective, at the lowest seed."""
    first: dict[tuple[str, str, str], Scored] = {}
    for one in sorted(scored, key=lambda one: victim_order(one.victim)):
        if set(_MOMENTS) <= set(one.pairs.columns):
            victim = one.victim
            first.setdefault((victim.corpus, victim.attack, victim.objective), one)
    return list(first.values())


def _bins(scored: Sequence[Scored]) -> list[float]:
    values = [one.pairs[moment] for one in scored for moment in _MOMENTS]
    low = min(float(value.min()) for value in values)
    high = max(float(value.max()) for value in values)
    return [float(edge) for edge in np.linspace(low, max(high, low + 1e-3), _BINS + 1)]


def _histogram(
    axes: Axes,
    pairs: pd.DataFrame,
    moment: str,
    bins: list[float],
) -> None:
    poisoned = pairs["is_poisoned"].to_numpy(np.bool_)
    for group, colour in ((~poisoned, _CLEAN), (poisoned, _POISONED)):
        values = pairs.loc[group, moment].to_numpy(np.float64)
        if len(values):
            share = np.full(len(values), 1 / len(values))
            axes.hist(values, bins, weights=share, histtype="stepfilled", color=colour, alpha=0.35)
            axes.hist(values, bins, weights=share, histtype="step", color=colour, linewidth=0.9)
    percent_ticks(axes, y=True)


def _key() -> list[Line2D]:
    return [
        Line2D([], [], color=colour, linewidth=5, alpha=0.6, label=label)
        for colour, label in ((_CLEAN, "clean pairs"), (_POISONED, "poisoned pairs"))
    ]
