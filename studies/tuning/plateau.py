"""CA and ASR over steps of every setting of a preset of tuning: a table and a figure.

python studies/tuning/plateau.py [folder, by default studies/tuning]
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clipmend.data.artifacts import CURVE
from clipmend.engine.cell import RESULTS, Place
from clipmend.report.style import percent_ticks, save, styled

STAGES = ("unlearn", "baselines")
DASHES: dict[str, Any] = {"clean_accuracy": "solid", "attack_success_rate": "dashed"}


def read_curves(results: Path) -> pd.DataFrame:
    """Return the measured points of every variant on every victim."""
    curves = []
    for path in sorted(path for stage in STAGES for path in (results / stage).rglob(CURVE)):
        place = Place.parse(path.parent.relative_to(results).as_posix())
        method, _, variant = place.method.partition("@")
        victim = f"{place.attack}, {place.objective}"
        points = pd.read_csv(path).dropna(subset=["clean_accuracy"])
        curves.append(points.assign(victim=victim, method=method, variant=variant))
    if not curves:
        raise SystemExit(f"{results} has no curves of repairs; run a preset of tuning first.")
    return pd.concat(curves, ignore_index=True)


def summarize(points: pd.DataFrame) -> pd.DataFrame:
    """Return both rates of each run at its start, after three quarters of its steps, at its end."""
    rows = []
    for names, run in points.groupby(["victim", "method", "variant"]):
        last = int(run["step"].max())
        late = run[run["step"] >= 0.75 * last].iloc[0]
        row = dict(zip(("victim", "method", "variant", "steps"), (*names, last), strict=True))
        for moment, point in (
            ("start", run.iloc[0]),
            ("three_quarters", late),
            ("end", run.iloc[-1]),
        ):
            row |= {f"{rate}_{moment}": point[rate] for rate in DASHES}
        rows.append(row)
    return pd.DataFrame(rows)


def _rate_and_length(variant: str) -> tuple[float, str]:
    rate, _, length = variant.removeprefix("lr").partition("x")
    return float(rate), length


@styled
def draw(points: pd.DataFrame) -> Figure:
    """Draw a row of panels per method, a panel per victim; a color is a setting, by rate."""
    victims, methods = sorted(set(points["victim"])), sorted(set(points["method"]), reverse=True)
    figure = Figure(figsize=(7.4, 1.75 * len(methods) + 0.5), layout="constrained")
    panels = figure.subplots(len(methods), len(victims), squeeze=False, sharey=True)
    for row, method in zip(panels, methods, strict=True):
        own = points[points["method"] == method]
        variants = sorted(set(own["variant"]), key=_rate_and_length)
        shades = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, len(variants)))
        for axes, victim in zip(row, victims, strict=True):
            for variant, color in zip(variants, shades, strict=True):
                run = own[(own["victim"] == victim) & (own["variant"] == variant)]
                for rate, dash in DASHES.items():
                    axes.plot(run["step"], run[rate], color=color, linestyle=dash)
            axes.set(title=f"{method} on {victim}", xlabel="Step", ylim=(-0.03, 1.03))
            percent_ticks(axes, y=True)
        keys = [Line2D([], [], color=c, label=v) for v, c in zip(variants, shades, strict=True)]
        keys += [Line2D([], [], color="#555555", linestyle=d, label=r.replace("_", " "))
                 for r, d in DASHES.items()]  # fmt: skip
        row[-1].legend(handles=keys, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=6)
    return figure


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    curves = read_curves(RESULTS)
    summarize(curves).to_csv(folder / "plateau.csv", index=False, float_format="%.4f")
    save(draw(curves), folder, "plateau")
