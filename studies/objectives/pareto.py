"""What CleanCLIP can reach: CA against ASR after every epoch of every learning rate.

CA is clean accuracy and ASR is attack success rate, on ``val``. Reads a finished results folder of
the preset ``objectives``. Writes ``pareto.csv``, a figure, ``pareto.md``, and beside the numbers of
arXiv:2311.14948 ``pareto_published.csv``. ``published.csv`` holds percentages from the files that
the authors committed to ``vsahil/attack-cleanclip``; an empty field is unknown, "none" was not
reached.

python studies/objectives/pareto.py results --out DIR
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clipmend.data.artifacts import OVERLAY, TRAIN, TRUSTED
from clipmend.engine.cell import Place
from clipmend.engine.job import Input
from clipmend.engine.runner import inputs_below
from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.claims.cleanings import LOSSES, Cleaning, best_below, cleanings, highest
from clipmend.report.order import attack_order, objective_order
from clipmend.report.style import (
    DOUBLE,
    fitted,
    key_below,
    key_height,
    label_bottoms,
    percent_ticks,
    save,
    styled,
)

CAPTION = (
    "What cleaning can reach: clean accuracy against attack success rate on the validation images "
    "after every epoch of every learning rate, a row per objective of the victim and a column per "
    "cleaning loss. Color marks the rate, shape the seed. The star is the victim. The ringed point "
    "has the highest clean accuracy among those with an attack success rate below 5 %, left of the "
    "dotted line; its CA / ASR in percent are above the panel."
)
NOTE = (
    "The best point is chosen by its ASR, which no defender can measure: an upper bound. Rows of "
    "arXiv:2311.14948 are from its authors' files: a ResNet-50 trained from nothing on CC3M or "
    "CC6M, cleaned for 20 epochs, measured on the 50,000 validation images of ImageNet. Rows of "
    "this run are measured on its own pairs, model and validation images. Compare the effect of "
    "cleaning on a victim, not the level: corpus, model, share of poison and number of classes "
    "differ."
)
_PUBLISHED = Path(__file__).with_name("published.csv")
_RATES = {
    "start_ca": "start_clean_accuracy",
    "start_asr": "start_attack_success_rate",
    "max_ca": "max_clean_accuracy",
    "max_ca_asr": "max_clean_accuracy_asr",
    "best_ca_asr5": "best_clean_accuracy_asr5",
    "best_ca_asr10": "best_clean_accuracy_asr10",
    "min_asr": "min_attack_success_rate",
    "min_asr_ca": "min_attack_success_rate_ca",
}
_STAR = "#009E73"
_RING: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": "#000000"}
_MARKERS = "os^Dv<>"  # one per seed, from the lowest seed


@dataclass(frozen=True)
class Sweep:
    """The runs of one victim that differ in their learning rate alone.

    Attributes:
        victim: the cell of ``pretrain``.
        loss: the loss that all runs minimized.
        change: the settings that differ from most runs of this loss; "" for no difference.
        runs: the runs, from the lowest rate.
        pairs: the number of clean pairs.
    """

    victim: Place
    loss: str
    change: str
    runs: tuple[Cleaning, ...]
    pairs: int

    @property
    def start(self) -> "pd.Series[Any]":
        """The victim before cleaning."""
        return self.runs[0].start

    @property
    def points(self) -> pd.DataFrame:
        """Every epoch of every run, without the starts."""
        return pd.concat([run.points for run in self.runs], ignore_index=True)

    def order(self) -> tuple[Any, ...]:
        """Return a sort key: victim, unchanged sweeps first, loss, change."""
        victim, words = self.victim, self.change.replace(",", "").split()
        place = (victim.corpus, attack_order(victim.attack), objective_order(victim.objective))
        sizes = [float(word) for word in words if word[0].isdigit()]
        names = [word for word in words if not word[0].isdigit()]
        return (*place, victim.seed, bool(words), LOSSES.index(self.loss), names, sizes)


def sweeps(inputs: Mapping[str, Input]) -> list[Sweep]:
    """Return the sweeps of a run, in the order of the tables."""
    grouped: dict[tuple[Place, str, str], list[Cleaning]] = {}
    for run in cleanings(inputs):
        change = ", ".join(
            f"{name} {value:g}" if isinstance(value, float | int) else f"{name} {value}"
            for name, value in run.changes
        )
        grouped.setdefault((run.victim, run.loss, change), []).append(run)
    made = []
    for (victim, loss, change), group in grouped.items():
        runs = sorted(group, key=lambda run: float(run.settings["lr"]))
        trusted = inputs[victim.at("download").path].folder / TRUSTED
        # The setting 0 stands for all trusted pairs.
        pairs = int(runs[0].settings.get("pairs", 0)) or pq.read_metadata(trusted).num_rows
        made.append(Sweep(victim, loss, change, tuple(runs), pairs))
    return sorted(made, key=Sweep.order)


def pareto_table(swept: Iterable[Sweep]) -> pd.DataFrame:
    """Return ``pareto.csv``, a row per sweep; rates are fractions on ``val``.

    A field is empty where no epoch has so low an ASR. ``min_attack_success_rate`` is over the
    epochs whose CA is within a point of the highest.
    """
    rows = [
        {
            **{name: getattr(sweep.victim, name) for name in ("corpus", "attack", "objective")},
            "seed": sweep.victim.seed,
            "cleaning": ", ".join(part for part in (sweep.loss, sweep.change) if part),
            "clean_pairs": sweep.pairs,
            "split": "val",
            "start_clean_accuracy": sweep.start[CLEAN],
            "start_attack_success_rate": sweep.start[ATTACK],
            **_reached(sweep.points),
            "n_runs": len(sweep.runs),
            "n_epochs": len(sweep.points),
        }
        for sweep in swept
    ]
    table = pd.DataFrame(rows)
    counts = [name for name in table.columns if name[:2] == "n_" or name == "clean_pairs"]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _reached(points: pd.DataFrame) -> dict[str, Any]:
    top = None if points.empty else highest(points)
    lowest = None
    if top is not None:
        # 1e-9: a CA of exactly a point less counts, whatever the rounding.
        near = points[points[CLEAN] >= top[CLEAN] - 0.01 - 1e-9]
        lowest = near.sort_values([ATTACK, CLEAN], ascending=[True, False], kind="stable").iloc[0]
    five, ten = best_below(points, 0.05), best_below(points, 0.10)
    return {
        "max_clean_accuracy": None if top is None else top[CLEAN],
        "max_clean_accuracy_asr": None if top is None else top[ATTACK],
        "best_clean_accuracy_asr5": None if five is None else five[CLEAN],
        "best_clean_accuracy_asr5_asr": None if five is None else five[ATTACK],
        "best_clean_accuracy_asr10": None if ten is None else ten[CLEAN],
        "min_attack_success_rate": None if lowest is None else lowest[ATTACK],
        "min_attack_success_rate_ca": None if lowest is None else lowest[CLEAN],
        "n_clean": points["n_clean"].min(),
        "n_triggered": points["n_triggered"].min(),
    }


def beside_published(pareto: pd.DataFrame, inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return the paper's rows, then a row per row of ``pareto.csv``, as text and in percent."""
    theirs = pd.read_csv(_PUBLISHED, dtype=str, keep_default_na=False)
    # Text, not numbers: "none" and an empty field say different things.
    theirs = theirs.assign(source="arXiv:2311.14948", measured_on="ImageNet val, 50000")
    rows = []
    for row in pareto.to_dict("records"):
        victim = Place("pretrain", row["corpus"], row["attack"], row["objective"], row["seed"])
        train = inputs[victim.at("download").path].folder / TRAIN
        overlay = pq.read_table(inputs[victim.at("poison").path].folder / OVERLAY)
        rows.append(
            {
                "source": "this run",
                "corpus": f"{victim.corpus}, {victim.attack}, seed {victim.seed}",
                "pairs": str(pq.read_metadata(train).num_rows),
                "poisons": str(sum(overlay["is_poisoned"].to_pylist())),
                "model": str(inputs[victim.path].shared.get("model", "")),
                "measured_on": f"{row['split']}, {row['n_clean']}",
                "objective": row["objective"],
                "cleaning": row["cleaning"],
                "clean_pairs": str(row["clean_pairs"]),
                **{name: _percent(row[column], ".2f") for name, column in _RATES.items()},
            }
        )
    ours = pd.DataFrame(rows)
    return pd.concat([theirs, ours], ignore_index=True)[list(ours.columns)]


def text_of(pareto: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return ``pareto.md``: losses, then changed settings, then the paper's rows beside ours."""
    changed = pareto["cleaning"].str.contains(",", regex=False)
    titles = {"by cleaning loss": pareto[~changed], "with changed settings": pareto[changed]}
    parts = [f"![{CAPTION}](pareto.png)"]
    for title, rows in titles.items():
        if len(rows):
            table = pd.DataFrame([_printed(row) for row in rows.to_dict("records")])
            parts.append(f"## What cleaning can reach on val, in percent: {title}")
            parts.append(table.to_markdown(index=False, disable_numparse=True))
    text = published.map(lambda text: f"{int(text):,}" if text.isdigit() else text)
    text.columns = text.columns.str.replace("_", " ")
    parts.append("## Reported elsewhere, and measured here, in percent")
    parts.append(text.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join([*parts, NOTE]) + "\n"


def _printed(row: Mapping[Any, Any]) -> dict[str, str]:
    def pair(first: str, second: str) -> str:
        ca_or_asr = _percent(row[first])
        return ca_or_asr if ca_or_asr == "none" else f"{ca_or_asr} / {_percent(row[second])}"

    return {
        **{name: str(row[name]) for name in ("cleaning", "corpus", "attack", "objective", "seed")},
        "start CA / ASR": pair("start_clean_accuracy", "start_attack_success_rate"),
        "highest CA / ASR": pair("max_clean_accuracy", "max_clean_accuracy_asr"),
        "best CA / ASR, ASR < 5": pair("best_clean_accuracy_asr5", "best_clean_accuracy_asr5_asr"),
        "best CA, ASR < 10": _percent(row["best_clean_accuracy_asr10"]),
        "lowest ASR / CA within a point of the highest": pair(
            "min_attack_success_rate", "min_attack_success_rate_ca"
        ),
        "images, triggered": f"{row['n_clean']}, {row['n_triggered']}",
        "runs, epochs": f"{row['n_runs']}, {row['n_epochs']}",
    }


def _percent(value: float | None, form: str = ".1f") -> str:
    return "none" if value is None or pd.isna(value) else f"{100 * value:{form}}"


@styled
def draw_pareto(swept: Sequence[Sweep]) -> Figure:
    """Plot a panel per corpus, attack and objective, and per cleaning loss; seeds share it."""
    # Changed settings have one rate each, which is no curve; they are in the table.
    plain = [sweep for sweep in swept if not sweep.change]
    losses = [loss for loss in LOSSES if any(sweep.loss == loss for sweep in plain)]
    grid: dict[tuple[str, ...], dict[str, list[Sweep]]] = {}
    for sweep in sorted(plain, key=_row):
        grid.setdefault(_row(sweep), {}).setdefault(sweep.loss, []).append(sweep)
    rates = sorted({float(run.settings["lr"]) for sweep in plain for run in sweep.runs})
    # 0.9: the brightest end of the map is too pale for white paper.
    shades = colormaps["plasma"]
    colors = {lr: to_hex(shades(0.9 * i / max(1, len(rates) - 1))) for i, lr in enumerate(rates)}
    seeds = sorted({sweep.victim.seed for sweep in plain if sweep.victim.seed is not None})
    markers = {seed: _MARKERS[i % len(_MARKERS)] for i, seed in enumerate(seeds)}
    keys = _keys(colors, markers)
    height = 2.1 * len(grid) + 0.3 + key_height(keys, DOUBLE)
    figure = Figure(figsize=(DOUBLE, height), layout="constrained")
    panels = figure.subplots(len(grid), len(losses), squeeze=False, sharex=True, sharey=True)
    # A title names the corpus and the attack only where there are several.
    several = [len({row[i] for row in grid}) > 1 for i in range(2)]
    for line, (row, by_loss) in enumerate(grid.items()):
        named = [name for name, tell in zip(row, (*several, True), strict=True) if tell]
        for axes, loss in zip(panels[line], losses, strict=True):
            group = by_loss.get(loss, [])
            _plot_panel(axes, group, colors, markers)
            title = fitted(f"cleaned by {loss}: {_best_text(group)}", len(losses), DOUBLE)
            axes.set_title(f"{', '.join(named)}\n{title}")
    label_bottoms(panels, "Attack success rate")
    for axes in panels[:, 0]:
        axes.set_ylabel("Clean accuracy")
    key_below(figure, keys, DOUBLE)
    return figure


def _row(sweep: Sweep) -> tuple[str, str, str]:
    return (sweep.victim.corpus, sweep.victim.attack, sweep.victim.objective)


def _plot_panel(
    axes: Axes, group: Sequence[Sweep], colors: Mapping[float, str], markers: Mapping[int, str]
) -> None:
    axes.axvline(0.05, color="#555555", linestyle=(0, (1, 2)), linewidth=0.8)
    for sweep in group:
        x, y, shades = (sweep.points[name] for name in (ATTACK, CLEAN, "lr"))
        marker, shades = markers[sweep.victim.seed or 0], shades.map(colors)
        axes.scatter(x, y, c=list(shades), s=10, marker=marker, alpha=0.8, linewidths=0)
        start = sweep.start
        axes.plot(start[ATTACK], start[CLEAN], "*", color=_STAR, markersize=9, zorder=4)
        if (best := best_below(sweep.points, 0.05)) is not None:
            axes.plot(best[ATTACK], best[CLEAN], "o", markersize=6, zorder=5, **_RING)
    percent_ticks(axes, x=True, y=True)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))


def _best_text(group: Sequence[Sweep]) -> str:
    """Return the best point as CA / ASR in percent; of several seeds, the range of its CA."""
    best = [point for sweep in group if (point := best_below(sweep.points, 0.05)) is not None]
    if not best:
        return "none"
    clean = [float(point[CLEAN]) for point in best]
    if len(group) == 1:
        return f"{_percent(clean[0])} / {_percent(best[0][ATTACK])}"
    ends = f"{_percent(min(clean))} to {_percent(max(clean))}"
    return f"{ends} ({len(best)} of {len(group)} seeds)"


def _keys(colors: Mapping[float, str], markers: Mapping[int, str]) -> list[Line2D]:
    def key(marker: str, label: str, size: int = 4, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, markersize=size, label=label, **look)

    keys = [key("*", "start", 8, color=_STAR), key("o", "best with ASR < 5 %", 6, **_RING)]
    keys += [key("o", f"lr {lr:g}", color=color) for lr, color in colors.items()]
    if len(markers) > 1:
        keys += [key(marker, f"seed {s}", color="#777777") for s, marker in markers.items()]
    return keys


def make(results: Path, out: Path) -> None:
    """Write the tables and the figure of a results folder."""
    inputs = inputs_below(results)
    swept = sweeps(inputs)
    if not swept:
        raise SystemExit(f"{results} has no poisoned victim that a variant of cleanclip cleaned.")
    pareto = pareto_table(swept)
    published = beside_published(pareto, inputs)
    out.mkdir(parents=True, exist_ok=True)
    pareto.to_csv(out / "pareto.csv", index=False, lineterminator="\n")
    published.to_csv(out / "pareto_published.csv", index=False, lineterminator="\n")
    (out / "pareto.md").write_text(text_of(pareto, published), encoding="utf-8")
    save(draw_pareto(swept), out, "pareto")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a finished results folder")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the files")
    arguments = parser.parse_args()
    make(arguments.results, arguments.out)
