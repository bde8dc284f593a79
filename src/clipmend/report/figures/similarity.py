"""Cosine similarity of image and caption before and after overfitting on the suspects."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmend.report import style
from clipmend.report.detection import MOMENTS, ScoredPairs, bin_edges
from clipmend.report.order import titles
from clipmend.report.results import Results

TITLE = "Similarity before and after overfitting"
CAPTION = (
    "Cosine similarity of image and caption over the training pairs of each victim. Above, in "
    "pre-scoring: the mean over zoomed and mirrored views of each image, by default under the "
    "victim. Below: of the whole image, after the victim was overfitted on the suspects of pre-"
    "scoring. A caption that describes its image still fits when the image is zoomed and "
    "mirrored; one that fits because of a trigger does not. Each histogram shows shares of its "
    "own group, so that the few poisoned pairs (n = n_poisoned in detectors.csv) are visible "
    "beside the many clean ones. Of several seeds the first is shown."
)
EMPTY = "No detector in this grid overfits."


@style.styled
def plot(results: Results) -> Figure | None:
    """Plot two histograms per victim: pre-scoring above, after overfitting below."""
    # One overfitting detector per corpus, attack and objective, at the lowest seed.
    first: dict[tuple[str, str, str], ScoredPairs] = {}
    for one in results.scored:
        if one.overfits:
            victim = one.victim
            first.setdefault((victim.corpus, victim.attack, victim.objective), one)
    scored = list(first.values())
    if not scored:
        return None
    title = titles(one.victim for one in scored)
    columns = style.column_count(len(scored))
    keys = [
        style.key(label, color=color, linewidth=5, alpha=0.6)
        for label, color in (("clean pairs", style.CLEAN), ("poisoned pairs", style.POISONED))
    ]
    figure, grid, stacks = style.panel_grid(len(scored), keys, pitch=2.35, extra=0.2, stacked=2)
    bins = bin_edges(scored)
    for number, (stack, one) in enumerate(zip(stacks, scored, strict=True)):
        poisoned = one.pairs["is_poisoned"].to_numpy(np.bool_)
        for axes, (moment, name) in zip(stack, MOMENTS.items(), strict=True):
            values = one.pairs[moment].to_numpy(np.float64)
            shares = [(values[~poisoned], style.CLEAN), (values[poisoned], style.POISONED)]
            plot_shares(axes, shares, bins)
            axes.set_ylabel("" if number % columns else name)
        stack[0].set_title(style.fitted(title[one.victim], columns))
    style.label_bottoms(grid, "Cosine similarity")
    figure.supylabel("Share of the group's pairs", fontsize=8)
    return figure


def plot_shares(
    axes: Axes, groups: Iterable[tuple[npt.NDArray[np.float64], str]], bins: list[float]
) -> None:
    """Plot a histogram of shares for each group of (values, color) that is not empty."""
    for values, color in groups:
        if len(values):
            # Shares, since counts would hide the few poisoned pairs behind the many clean ones.
            share = np.full(len(values), 1 / len(values))
            axes.hist(values, bins, weights=share, histtype="stepfilled", color=color, alpha=0.35)
            # An outline too: where two fills overlap, neither is readable.
            axes.hist(values, bins, weights=share, histtype="step", color=color, linewidth=0.9)
    style.percent_ticks(axes, y=True)
