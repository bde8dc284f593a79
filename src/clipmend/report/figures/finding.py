"""What an unlearning repair chose on one victim: the pairs, their scores, and the curve."""

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from clipmend.data.words import bare
from clipmend.report import style
from clipmend.report.cells import ATTACK
from clipmend.report.cells import CLEAN as ACCURACY
from clipmend.report.detection import MOMENTS, bin_edges
from clipmend.report.figures.curves import plot_line
from clipmend.report.figures.similarity import plot_shares
from clipmend.report.findings import Finding
from clipmend.report.results import Results
from clipmend.report.sheet import Tile, draw_sheet, height, marked, square

CAPTION = (
    "What repairs of the training pairs found on each victim, at the first seed. Left: the most "
    "suspect of the pairs that a repair chose; the words that it unlearned are bold. If it found "
    "nothing, the model is unchanged, and the most suspect pairs are shown. A blue frame marks a "
    "pair that is not poisoned, which no defender can know. Right, above: similarity of image and "
    "caption in pre-scoring and after overfitting, as shares of each group, where the detector "
    "recorded it. Right, below: clean accuracy and attack success rate on the validation images, "
    "and the loss, over the steps of the repair."
)
_GROUPS = {
    "others": ("all others", style.OTHER),
    "suspects": ("suspects not chosen", style.SUSPECT),
    "chosen": ("chosen", style.CHOSEN),
}
_RATES = {
    ACCURACY: style.Look("#000000", "o"),
    ATTACK: style.Look(style.POISONED, "^", (0, (4, 1.5))),
}
_SHEET = 4.3  # the width of the contact sheet in inches; the panels have the rest


def findings_with_figure(findings: Sequence[Finding]) -> dict[str, Finding]:
    """Return, by file name, the findings of no control and no variant, at the first seed."""
    shown: dict[str, Finding] = {}
    seen = set()
    for finding in findings:
        victim, method = finding.victim, finding.unlearned.method
        cell = (victim.corpus, victim.attack, victim.objective, method)
        if "@" not in method and not finding.unlearned.control and cell not in seen:
            seen.add(cell)
            name = f"findings/{victim.victim_path.replace('/', '-')}"
            shown[name if method == "ubt" else f"{name}-{method}"] = finding
    return shown


def title_of(finding: Finding) -> str:
    """Return the victim and the repair."""
    victim = finding.victim
    place = f"{victim.corpus}, {victim.attack}, {victim.objective}, seed {victim.seed}"
    return f"{place}: what {finding.unlearned.method} found"


def tiles_of(results: Results, finding: Finding) -> list[Tile]:
    """Return the pairs of the contact sheet, as the victim saw them in training."""
    pairs = results.pairs(finding.victim, list(finding.shown["id"]))
    tiles = []
    for row in finding.shown.to_dict("records"):
        pair = pairs.get(row["id"], {})
        caption = pair.get("caption", row.get("caption", ""))
        word = finding.unlearned.finding["word"]
        text = row.get("text") or " ".join(w for w in caption.split() if bare(w) == word)
        image = square(pair["image"]) if pair else None
        frame = style.CHOSEN if row["is_poisoned"] else style.CLEAN
        tiles.append(Tile(image, marked(caption, text), frame))
    return tiles


@style.styled
def plot(results: Results, finding: Finding) -> Figure:
    """Plot the contact sheet beside the histograms and the curve."""
    tiles = tiles_of(results, finding)
    stated = finding.unlearned.finding
    lines = wrap(stated["says"], 108)
    if stated["texts"]:
        texts = ", ".join(f"{text} ({count})" for text, count in stated["texts"].items())
        lines += wrap(f"Unlearned of their captions: {texts}", 108, max_lines=2)
    head = 0.29 + 0.155 * len(lines)
    body = max(height(tiles, _SHEET) + 0.22, 4.1)
    figure = Figure(figsize=(style.DOUBLE, head + body), layout="constrained")
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(head, body)).flat
    margin, text = 0.03 / style.DOUBLE, "\n".join(lines)
    top.text(margin, 1 - 0.04 / head, title_of(finding), fontsize=9, va="top", weight="bold")
    top.text(margin, 1 - 0.22 / head, text, va="top", linespacing=1.3, parse_math=False)
    widths = (_SHEET, style.DOUBLE - _SHEET)
    left, right = below.subfigures(1, 2, squeeze=False, width_ratios=widths).flat
    count, chosen = len(finding.shown), len(finding.unlearned.chosen)
    if not chosen:
        headline = f"The {count} most suspect pairs; none was chosen"
    elif count == chosen:
        headline = f"The {chosen} chosen pairs"
    else:
        headline = f"The {count} most suspect of the {chosen} chosen pairs"
    left.text(0.03 / _SHEET, 1 - 0.02 / body, headline, va="top")
    high = height(tiles, _SHEET) / body
    sheet = left.add_axes((0, 1 - 0.2 / body - high, 1, high), in_layout=False)
    draw_sheet(sheet, tiles, _SHEET, color=style.CHOSEN)
    _plot_panels(right, finding)
    return figure


def _plot_panels(part: SubFigure, finding: Finding) -> None:
    before, after, rates, loss = part.subplots(4, 1)
    before.sharex(after)
    rates.sharex(loss)
    for upper in (before, rates):
        upper.tick_params(labelbottom=False)
    for axes, (moment, name) in zip((before, after), MOMENTS.items(), strict=True):
        if finding.scored.overfits:
            shares = [
                (pairs[moment].to_numpy(np.float64), _GROUPS[group][1])
                for group, pairs in finding.members.items()
            ]
            plot_shares(axes, shares, bin_edges([finding.scored]))
        else:
            _say(axes, f"Not recorded by {finding.scored.method}.")
        axes.set_title(f"Similarity, {name}")
        axes.set_ylabel("Share")
    after.set_xlabel("Cosine similarity")
    _plot_curve(rates, loss, finding)
    keys = [
        style.key(f"{name} ({len(finding.members[group]):,})", color=color, linewidth=5, alpha=0.6)
        for group, (name, color) in _GROUPS.items()
    ]
    keys += [
        style.key(m.replace("_", " "), markersize=4, **look.line) for m, look in _RATES.items()
    ]
    style.key_below(part, keys, style.DOUBLE - _SHEET)


def _plot_curve(rates: Axes, loss: Axes, finding: Finding) -> None:
    points = finding.curve.points
    for metric, line in _RATES.items():
        plot_line(rates, points, x="step", metric=metric, line=line)
    style.percent_ticks(rates, y=True)
    rates.set_ylim(-0.08, 1.08)
    rates.set_title("Unlearning")
    rates.set_ylabel("Rate")
    loss.set_ylabel("Loss")
    loss.set_xlabel("Step")
    if len(points) > 1:
        plot_line(loss, points, x="step", metric="loss", line=style.Look(style.GRAY, "s"))
        loss.set_ylim(bottom=0)
    else:
        _say(loss, "No step was taken.")
        loss.set_xlim(-0.5, 4)
        loss.set_xticks([0])


def _say(axes: Axes, text: str) -> None:
    axes.set(yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", color=style.GRAY, transform=axes.transAxes)
