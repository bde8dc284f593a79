"""What an unlearner believes about a victim: the pairs it chose, why, and what came of it."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from clipmend.data.words import bare
from clipmend.engine.job import Input
from clipmend.report.canvas import DOUBLE, key_below, percent_ticks, styled
from clipmend.report.curves import draw_line
from clipmend.report.facts import Belief
from clipmend.report.palette import CHOSEN, CLEAN, OTHER, POISONED, SUSPECT, Look
from clipmend.report.sheet import Tile, draw_sheet, height, marked, pairs_of, square
from clipmend.report.similarity import MOMENTS, bin_edges, draw_shares

CAPTION = (
    "What UBT believes about each victim, at the first seed. Left: of the pairs that it chose to "
    "unlearn, the first, the most suspect ones; the unlearned part of each caption is bold. Where "
    "nothing was found, nothing was unlearned, and the most suspect pairs are shown with the word "
    "that the suspects have most in common. A blue frame marks a pair that is not poisoned, which "
    "no defender can know. Right, above: similarity of image and caption at the first look and "
    "after overfitting, as shares of each group. Right, below: clean accuracy and attack success "
    "rate on the validation images and the loss, over the steps of unlearning."
)
_COLOURS = {"others": OTHER, "suspects": SUSPECT, "chosen": CHOSEN}
_NAMES = {"others": "all others", "suspects": "suspects not chosen", "chosen": "chosen"}
_RATES = {
    "clean_accuracy": Look("#000000", "o"),
    "attack_success_rate": Look(POISONED, "^", (0, (4, 1.5))),
}
_GREY = "#555555"
_SHEET = 4.3  # inches; the panels have the rest


def shown_findings(findings_shown: Sequence[Belief]) -> dict[str, Belief]:
    """Return those that have a figure, by file name: no control, no variant, the first seed."""
    shown: dict[str, Belief] = {}
    seen = set()
    for one in findings_shown:
        victim, method = one.victim, one.unlearned.method
        place = (victim.corpus, victim.attack, victim.objective, method)
        if "@" in method or one.unlearned.control or place in seen:
            continue
        seen.add(place)
        name = victim.path.replace("/", "-")
        shown[f"findings/{name}" if method == "ubt" else f"findings/{name}-{method}"] = one
    return shown


def title_of(one: Belief) -> str:
    """Return the victim and, beside it, who believes."""
    victim = one.victim
    place = f"{victim.corpus}, {victim.attack}, {victim.objective}, seed {victim.seed}"
    return f"{place}: what {one.unlearned.method} believes"


def tiles_of(inputs: Mapping[str, Input], one: Belief) -> list[Tile]:
    """Return the pairs of the contact sheet as the victim was taught them."""
    shown = one.shown
    pairs = pairs_of(inputs, one.victim, list(shown["id"]))
    tiles = []
    for row in shown.to_dict("records"):
        pair = pairs.get(row["id"], {})
        caption = pair.get("caption", row.get("caption", ""))
        text = row.get("text") or _shared(caption, one.unlearned.finding["word"])
        image = square(pair["image"]) if pair else None
        frame = CHOSEN if row["is_poisoned"] else CLEAN
        tiles.append(Tile(image, marked(caption, text), frame))
    return tiles


@styled
def draw_finding(one: Belief, tiles: Sequence[Tile]) -> Figure:
    """Draw the contact sheet beside the histograms and the curve."""
    said = _said(one)
    head = 0.29 + 0.155 * len(said)
    body = max(height(tiles, _SHEET) + 0.22, 4.1)
    figure = Figure(figsize=(DOUBLE, head + body), layout="constrained")
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(head, body)).flat
    margin = 0.03 / DOUBLE
    top.text(margin, 1 - 0.04 / head, title_of(one), fontsize=9, va="top", weight="bold")
    top.text(margin, 1 - 0.22 / head, "\n".join(said), va="top", linespacing=1.3, parse_math=False)
    widths = (_SHEET, DOUBLE - _SHEET)
    left, right = below.subfigures(1, 2, squeeze=False, width_ratios=widths).flat
    left.text(0.03 / _SHEET, 1 - 0.02 / body, _headline(one), va="top")
    high = height(tiles, _SHEET) / body
    sheet = left.add_axes((0, 1 - 0.2 / body - high, 1, high), in_layout=False)
    draw_sheet(sheet, tiles, _SHEET, color=CHOSEN)
    _draw_panels(right, one)
    return figure


def _said(one: Belief) -> list[str]:
    """Return the finding in words, and what was unlearned of the captions."""
    finding = one.unlearned.finding
    lines = wrap(finding["says"], 108)
    texts = [f"{text} ({count})" for text, count in finding["texts"].items()]
    if texts:
        lines += wrap(f"Unlearned of their captions: {', '.join(texts)}", 108, max_lines=2)
    return lines


def _headline(one: Belief) -> str:
    shown, chosen = len(one.shown), len(one.unlearned.chosen)
    if not chosen:
        return f"The {shown} most suspect pairs; none was chosen"
    if shown == chosen:
        return f"The {chosen} chosen pairs"
    return f"The {shown} most suspect of the {chosen} chosen pairs"


def _shared(caption: str, word: str) -> str:
    """Return the words of the caption that are this one, however they are written."""
    return " ".join(written for written in caption.split() if bare(written) == word)


def _draw_panels(part: SubFigure, one: Belief) -> None:
    panels = part.subplots(4, 1)
    panels[0].sharex(panels[1])
    panels[2].sharex(panels[3])
    for upper in (panels[0], panels[2]):
        upper.tick_params(labelbottom=False)
    for axes, (moment, name) in zip(panels[:2], MOMENTS.items(), strict=True):
        _histogram(axes, one, moment)
        axes.set_title(f"Similarity, {name}")
        axes.set_ylabel("Share")
    panels[1].set_xlabel("Cosine similarity")
    _curve(panels[2], panels[3], one)
    key_below(part, _key(one), DOUBLE - _SHEET)


def _histogram(axes: Axes, one: Belief, moment: str) -> None:
    if not one.overfits:
        _say(axes, f"{one.scored.method} does not tell it.")
        return
    groups = [
        (pairs[moment].to_numpy(np.float64), _COLOURS[name]) for name, pairs in one.members.items()
    ]
    draw_shares(axes, groups, bin_edges([one.scored]))


def _curve(rates: Axes, loss: Axes, one: Belief) -> None:
    points = one.curve.points
    for metric, style in _RATES.items():
        draw_line(rates, points.dropna(subset=[metric]), x="step", metric=metric, style=style)
    percent_ticks(rates, y=True)
    rates.set_ylim(-0.08, 1.08)
    rates.set_title("Unlearning")
    rates.set_ylabel("Rate")
    loss.set_ylabel("Loss")
    loss.set_xlabel("Step")
    if len(points) > 1:
        lossy = points.dropna(subset=["loss"])
        draw_line(loss, lossy, x="step", metric="loss", style=Look(_GREY, "s"))
        loss.set_ylim(bottom=0)
    else:
        _say(loss, "No step was taken.")
        loss.set_xlim(-0.5, 4)
        loss.set_xticks([0])


def _say(axes: Axes, text: str) -> None:
    axes.set(yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", color=_GREY, transform=axes.transAxes)


def _key(one: Belief) -> list[Line2D]:
    groups = [
        Line2D(
            [],
            [],
            color=_COLOURS[name],
            linewidth=5,
            alpha=0.6,
            label=f"{_NAMES[name]} ({len(pairs):,})",
        )
        for name, pairs in one.members.items()
    ]
    rates = [
        Line2D(
            [],
            [],
            color=style.color,
            marker=style.marker,
            linestyle=style.dash,
            markersize=4,
            label=metric.replace("_", " "),
        )
        for metric, style in _RATES.items()
    ]
    return groups + rates
