"""CA against ASR over every epoch of every learning rate of a cleaning: what it could reach."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clipmend.report.canvas import (
    DOUBLE,
    blank,
    fitted,
    key_below,
    key_height,
    label_bottoms,
    percent_ticks,
    styled,
)
from clipmend.report.cells import records
from clipmend.report.cleaning import LOSSES, Cleaning
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed

CAPTION = (
    "What cleaning can reach: clean accuracy against attack success rate on the validation images "
    "after every epoch of every learning rate, a row per victim's objective and a column per "
    "cleaning loss; color tells the rate, shape the seed. The star is the victim; the ringed "
    "point has the highest clean accuracy among those with an attack success rate below 5 %, left "
    "of the dotted line; its CA / ASR in percent stand above the panel."
)
DEFINITIONS = {
    "best_clean_accuracy_asr5": "The highest CA on `val` of any epoch of any learning rate whose "
    "ASR there is below 5 %; a choice that looks at the ASR, which no defender can, and so an "
    "upper bound.",
}
COLUMNS = (
    "corpus",
    "attack",
    "objective",
    "seed",
    "cleaning",
    "clean_pairs",
    "split",
    "start_clean_accuracy",
    "start_attack_success_rate",
    "max_clean_accuracy",
    "max_clean_accuracy_asr",
    "best_clean_accuracy_asr5",
    "best_clean_accuracy_asr5_asr",
    "best_clean_accuracy_asr10",
    "min_attack_success_rate",
    "min_attack_success_rate_ca",
    "n_clean",
    "n_triggered",
    "n_runs",
    "n_epochs",
)
_ASR5, _ASR10, _NEAR = 0.05, 0.10, 0.01
_STAR = "#009E73"
_SEEDS = "os^Dv<>"  # a marker a seed, from the lowest


def pareto_table(found: Sequence[Cleaning]) -> pd.DataFrame:
    """Return ``pareto.csv``, a row per victim and cleaning; rates are fractions on ``val``.

    Empty where no epoch has so low an ASR. ``min_attack_success_rate`` is over the epochs whose CA
    is within a point of the highest. The victim itself is not among the epochs.
    """
    rows = [
        {**asdict(one.victim), "cleaning": one.name, "clean_pairs": one.pairs, **_reached(one)}
        for one in found
    ]
    counts = {name: "Int64" for name in COLUMNS if name[:2] == "n_" or name == "clean_pairs"}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(counts)


def best_below(points: pd.DataFrame, limit: float) -> "pd.Series[Any] | None":
    """Return the point with the highest CA among those with an ASR below ``limit``."""
    below = points[points[ATTACK] < limit]
    return None if below.empty else _highest(below)


def _highest(points: pd.DataFrame) -> "pd.Series[Any]":
    """Return the point with the highest CA; of equal ones, the lowest ASR."""
    return points.sort_values([CLEAN, ATTACK], ascending=[False, True], kind="stable").iloc[0]


def _reached(one: Cleaning) -> dict[str, Any]:
    points = one.points
    row: dict[str, Any] = {
        "split": "val",
        "start_clean_accuracy": one.start[CLEAN],
        "start_attack_success_rate": one.start[ATTACK],
        "n_runs": len(one.runs),
        "n_epochs": len(points),
    }
    if points.empty:
        return row
    highest = _highest(points)
    near = points[points[CLEAN] >= highest[CLEAN] - _NEAR - 1e-9]
    lowest = near.sort_values([ATTACK, CLEAN], ascending=[True, False], kind="stable").iloc[0]
    five, ten = best_below(points, _ASR5), best_below(points, _ASR10)
    return row | {
        "max_clean_accuracy": highest[CLEAN],
        "max_clean_accuracy_asr": highest[ATTACK],
        "best_clean_accuracy_asr5": None if five is None else five[CLEAN],
        "best_clean_accuracy_asr5_asr": None if five is None else five[ATTACK],
        "best_clean_accuracy_asr10": None if ten is None else ten[CLEAN],
        "min_attack_success_rate": lowest[ATTACK],
        "min_attack_success_rate_ca": lowest[CLEAN],
        "n_clean": points["n_clean"].min(),
        "n_triggered": points["n_triggered"].min(),
    }


@styled
def draw_pareto(found: Sequence[Cleaning]) -> Figure:
    """Draw a panel per corpus, attack and objective, and cleaning loss; seeds share it."""
    shown = [one for one in found if not one.change]
    if not shown:
        return blank("No cleaning was swept in this grid.")
    rows = sorted({_row(one) for one in shown})
    losses = [loss for loss in LOSSES if any(one.loss == loss for one in shown)]
    keys = _key(shown)
    height = 2.1 * len(rows) + 0.3 + key_height(keys, DOUBLE)
    figure = Figure(figsize=(DOUBLE, height), layout="constrained")
    panels = figure.subplots(len(rows), len(losses), squeeze=False, sharex=True, sharey=True)
    for line, row in enumerate(rows):
        for column, loss in enumerate(losses):
            axes = panels[line, column]
            ours = [one for one in shown if one.loss == loss and _row(one) == row]
            _panel(axes, ours, _colors(shown), _markers(shown))
            named = f"cleaned by {loss}: {_said(ours)}"
            axes.set_title(f"{_titled(row, rows)}\n{fitted(named, len(losses), DOUBLE)}")
    label_bottoms(panels, "Attack success rate")
    for axes in panels[:, 0]:
        axes.set_ylabel("Clean accuracy")
    key_below(figure, keys, DOUBLE)
    return figure


def _row(one: Cleaning) -> tuple[str, str, str]:
    return (one.victim.corpus, one.victim.attack, one.victim.objective)


def _titled(row: tuple[str, str, str], rows: Sequence[tuple[str, str, str]]) -> str:
    corpus, attack, objective = row
    several = [len({other[place] for other in rows}) > 1 for place in range(2)]
    parts = [part for part, said in zip((corpus, attack), several, strict=True) if said]
    return ", ".join([*parts, objective])


def _colors(found: Sequence[Cleaning]) -> dict[float, str]:
    """Return a color a learning rate, from dark for the lowest; the same in every panel."""
    rates = sorted({run.lr for one in found for run in one.runs})
    shades = colormaps["plasma"]
    return {
        lr: to_hex(shades(0.9 * place / max(1, len(rates) - 1))) for place, lr in enumerate(rates)
    }


def _markers(found: Sequence[Cleaning]) -> dict[int, str]:
    """Return a marker a seed, the same in every panel."""
    seeds = sorted({one.victim.seed for one in found})
    return {seed: _SEEDS[place % len(_SEEDS)] for place, seed in enumerate(seeds)}


def _panel(
    axes: Axes,
    found: Sequence[Cleaning],
    colors: Mapping[float, str],
    markers: Mapping[int, str],
) -> None:
    axes.axvline(_ASR5, color="#555555", linestyle=(0, (1, 2)), linewidth=0.8)
    for one in found:
        points = one.points
        shades = [colors[lr] for lr in points["lr"]]
        marker = markers[one.victim.seed]
        axes.scatter(
            points[ATTACK], points[CLEAN], c=shades, s=10, marker=marker, alpha=0.8, linewidths=0
        )
        axes.plot(one.start[ATTACK], one.start[CLEAN], "*", color=_STAR, markersize=9, zorder=4)
        if (best := best_below(points, _ASR5)) is not None:
            axes.plot(
                best[ATTACK],
                best[CLEAN],
                "o",
                markerfacecolor="none",
                markeredgecolor="#000000",
                markersize=6,
                zorder=5,
            )
    percent_ticks(axes, x=True, y=True)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))


def _said(found: Sequence[Cleaning]) -> str:
    """Return the best point as CA / ASR in percent; of several seeds, the span of its CA."""
    best = [point for one in found if (point := best_below(one.points, _ASR5)) is not None]
    if not best:
        return "none"
    clean = [float(point[CLEAN]) for point in best]
    if len(found) > 1:
        span = f"{percent(min(clean))} to {percent(max(clean))}"
        return f"{span} ({len(best)} of {len(found)} seeds)"
    return f"{percent(clean[0])} / {percent(float(best[0][ATTACK]))}"


def _key(found: Sequence[Cleaning]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="none", marker="*", color=_STAR, markersize=8, label="start"),
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=6,
            markerfacecolor="none",
            markeredgecolor="#000000",
            label="best with ASR < 5 %",
        ),
        *(
            Line2D(
                [], [], linestyle="none", marker="o", markersize=4, color=color, label=f"lr {lr:g}"
            )
            for lr, color in _colors(found).items()
        ),
        *_seed_keys(_markers(found)),
    ]


def _seed_keys(markers: Mapping[int, str]) -> list[Line2D]:
    if len(markers) == 1:
        return []
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4, "color": "#777777"}
    return [Line2D([], [], marker=marker, label=f"seed {seed}", **look)
            for seed, marker in markers.items()]  # fmt: skip


def printed_pareto(table: pd.DataFrame) -> list[Printed]:
    """Return ``pareto.csv`` as it is printed: cleaning losses, then what was tried beside."""
    beside = table["cleaning"].str.contains(",", regex=False).astype(bool)
    titled = (("by cleaning loss", table[~beside]), ("what was tried beside", table[beside]))
    return [
        _printed(f"What cleaning can reach on val, in percent: {title}", rows)
        for title, rows in titled
        if not rows.empty
    ]


def _printed(title: str, table: pd.DataFrame) -> Printed:
    header = (
        "cleaning",
        *("corpus", "attack", "objective", "seed"),
        "start CA / ASR",
        "highest CA / ASR",
        "best CA / ASR, ASR < 5",
        "best CA, ASR < 10",
        "lowest ASR / CA within a point of the highest",
        "images, triggered",
        "runs, epochs",
    )
    rows = tuple(
        tuple(
            Entry(text)
            for text in (
                row["cleaning"],
                *(str(row[name]) for name in ("corpus", "attack", "objective", "seed")),
                _pair(row, "start_clean_accuracy", "start_attack_success_rate"),
                _pair(row, "max_clean_accuracy", "max_clean_accuracy_asr"),
                _pair(row, "best_clean_accuracy_asr5", "best_clean_accuracy_asr5_asr"),
                percent(row["best_clean_accuracy_asr10"]),
                _pair(row, "min_attack_success_rate", "min_attack_success_rate_ca"),
                f"{row['n_clean']:,}, {row['n_triggered']:,}" if row["n_clean"] else "",
                f"{row['n_runs']}, {row['n_epochs']}",
            )
        )
        for row in records(table)
    )
    return Printed(title, header, rows)


def percent(value: float | None) -> str:
    """Return a fraction as it is printed; "none" where no epoch reached it."""
    return "none" if value is None else f"{100 * value:.1f}"


def _pair(row: dict[str, Any], one: str, other: str) -> str:
    return "none" if row[one] is None else f"{percent(row[one])} / {percent(row[other])}"
