"""The repairs' plateau, from the curves of a preset of tuning: a table and a figure in docs/.

python scripts/tuning.py [docs/results/tuning]
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

ROOT = Path(__file__).resolve().parents[1]
CURVES = ROOT / "results" / "baselines"
OUT = ROOT / "docs/results/tuning"
RATES: dict[str, Any] = {"clean_accuracy": "solid", "attack_success_rate": (0, (4, 1.5))}
_KEY_ROWS = 12  # as many as a panel is high


def curves() -> pd.DataFrame:
    """Return the measured points of every variant on every victim."""
    found = []
    for path in sorted(CURVES.rglob("curve.csv")):
        _, attack, objective, seed, repair = path.parent.relative_to(CURVES).parts
        method, _, variant = repair.partition("@")
        points = pd.read_csv(path).dropna(subset=["clean_accuracy"])
        victim = f"{attack}, {objective}"
        found.append(points.assign(victim=victim, seed=seed, method=method, variant=variant))
    if not found:
        raise SystemExit(f"No curves in {CURVES}; run a preset of tuning first.")
    return pd.concat(found, ignore_index=True)


def ends(points: pd.DataFrame) -> pd.DataFrame:
    """Return the start, three quarters of the way, and the end of each run."""
    rows = []
    for (victim, method, variant), run in points.groupby(["victim", "method", "variant"]):
        last = run["step"].max()
        late = run[run["step"] >= 0.75 * last].iloc[0]
        moments = {"start": run.iloc[0], "three_quarters": late, "end": run.iloc[-1]}
        values = {
            f"{rate}_{moment}": point[rate] for moment, point in moments.items() for rate in RATES
        }
        rows.append(
            {"victim": victim, "method": method, "variant": variant, "steps": int(last)} | values
        )
    return pd.DataFrame(rows)


def _order(variant: str) -> tuple[float, str]:
    rate, _, longer = variant.removeprefix("lr").partition("x")
    return float(rate), longer


def draw(points: pd.DataFrame) -> Figure:
    """Draw a row of panels per method, a panel per victim; colors tell the settings, by rate."""
    victims, methods = sorted(set(points["victim"])), sorted(set(points["method"]), reverse=True)
    figure = Figure(figsize=(7.4, 1.75 * len(methods) + 0.5), layout="constrained")
    panels = figure.subplots(len(methods), len(victims), squeeze=False, sharey=True)
    for row, method in zip(panels, methods, strict=True):
        ours = points[points["method"] == method]
        variants = sorted(set(ours["variant"]), key=_order)
        shades = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, len(variants)))
        colors = dict(zip(variants, shades, strict=True))
        for axes, victim in zip(row, victims, strict=True):
            _panel(axes, ours[ours["victim"] == victim], colors)
            axes.set_title(f"{method} on {victim}", fontsize=8)
        row[-1].legend(
            handles=[Line2D([], [], color=c, label=v) for v, c in colors.items()],
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            ncols=1 if len(colors) <= _KEY_ROWS else 2,
            fontsize=6,
            frameon=False,
        )
    for axes in panels[-1]:
        axes.set_xlabel("Step", fontsize=8)
    dashes = [
        Line2D([], [], color="#555555", linestyle=dash, label=rate.replace("_", " "))
        for rate, dash in RATES.items()
    ]
    figure.legend(handles=dashes, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return figure


def _panel(axes: Axes, runs: pd.DataFrame, colors: dict[str, Any]) -> None:
    for variant, run in runs.groupby("variant"):
        for rate, dash in RATES.items():
            color = colors[str(variant)]
            axes.plot(run["step"], run[rate], color=color, linestyle=dash, linewidth=1.1)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=OUT)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    points = curves()
    ends(points).to_csv(
        folder / "plateau.csv", index=False, float_format="%.4f", lineterminator="\n"
    )
    figure = draw(points)
    figure.savefig(folder / "plateau.png", dpi=200, metadata={"Software": None})
    figure.savefig(folder / "plateau.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
