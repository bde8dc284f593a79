"""What overfitting does to the similarity of image and caption, for clean and poisoned pairs."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
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
from clipmend.report.palette import CLEAN, POISONED

CAPTION = (
    "Cosine similarity of image and caption over the training pairs of each victim: at the first "
    "look, the mean over zoomed and mirrored views of each image (above), and of the whole image "
    "after overfitting on the suspects, which the first look has told (below). Each histogram "
    "holds the share of its own group, so that the few poisoned pairs (n = n_poisoned in "
    "detectors.csv) stand beside the many clean ones. Of several seeds the first is shown."
)
MOMENTS = {"similarity_before": "first look", "similarity_after": "after overfitting"}
_BINS = 40


@styled
def draw_similarity(scored: Sequence[Scored]) -> Figure:
    """Draw two histograms per victim: the first look above, after overfitting below."""
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
    bins = bin_edges(shown)
    for place, one in enumerate(shown):
        block, column = divmod(place, columns)
        poisoned = one.pairs["is_poisoned"].to_numpy(np.bool_)
        for below, (moment, name) in enumerate(MOMENTS.items()):
            axes = panels[2 * block + below, column]
            values = one.pairs[moment].to_numpy(np.float64)
            draw_shares(axes, [(values[~poisoned], CLEAN), (values[poisoned], POISONED)], bins)
            axes.set_ylabel("" if column else name)
        panels[2 * block, column].set_title(fitted(title[one.victim], columns))
    label_bottoms(panels, "Cosine similarity")
    figure.supylabel("Share of the group's pairs", fontsize=8)
    key_below(figure, keys, wide)
    return figure


def _first_of_each(scored: Sequence[Scored]) -> list[Scored]:
    """Return one detector that overfits per corpus, attack and objective, at the lowest seed."""
    first: dict[tuple[str, str, str], Scored] = {}
    for one in sorted(scored, key=lambda one: victim_order(one.victim)):
        if MOMENTS.keys() <= set(one.pairs.columns):
            victim = one.victim
            first.setdefault((victim.corpus, victim.attack, victim.objective), one)
    return list(first.values())


def bin_edges(scored: Sequence[Scored]) -> list[float]:
    """Return the edges of the bins in which all similarities of these detectors lie."""
    values = [one.pairs[moment] for one in scored for moment in MOMENTS]
    low = min(float(value.min()) for value in values)
    high = max(float(value.max()) for value in values)
    return [float(edge) for edge in np.linspace(low, max(high, low + 1e-3), _BINS + 1)]


def draw_shares(
    axes: Axes, groups: Iterable[tuple[npt.NDArray[np.float64], str]], bins: list[float]
) -> None:
    """Draw a histogram for each group (its values, its color) that is not empty."""
    for values, color in groups:
        if len(values):
            share = np.full(len(values), 1 / len(values))
            axes.hist(values, bins, weights=share, histtype="stepfilled", color=color, alpha=0.35)
            axes.hist(values, bins, weights=share, histtype="step", color=color, linewidth=0.9)
    percent_ticks(axes, y=True)


def _key() -> list[Line2D]:
    return [
        Line2D([], [], color=color, linewidth=5, alpha=0.6, label=label)
        for color, label in ((CLEAN, "clean pairs"), (POISONED, "poisoned pairs"))
    ]
