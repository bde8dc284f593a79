"""How well detectors tell triggered images from clean ones when they arrive at a model in use.

Reads what the detectors of inputs wrote in the finished run in this folder, of the preset
``input_detectors``. Writes ``inputs.csv``, ``table.md`` and the figure. AUROC is the area under the
curve of the receiver operating characteristic, TPR and FPR are the true and false positive rate.

python studies/input_detectors/auroc.py OUT [--draw]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from clipmend.engine.cell import RESULTS
from clipmend.engine.runner import inputs_below
from clipmend.report.order import attack_order, objective_order
from clipmend.report.results import Results
from clipmend.report.style import (
    CHOSEN,
    CLEAN,
    DOUBLE,
    GRAY,
    POISONED,
    SUSPECT,
    Look,
    key,
    key_below,
    key_height,
    label_bottoms,
    save,
    styled,
)

_LOOKS = [Look(CLEAN, "s"), Look(POISONED, "^"), Look(CHOSEN, "o"), Look(SUSPECT, "D")]
_NUMBERS = ("auroc", "tpr", "f1")


def text_of(inputs: pd.DataFrame) -> str:
    """Return ``table.md``: AUROC, TPR and F1 of each detector and trigger, and their FPR."""
    parts = []
    for objective in sorted(set(inputs["objective"]), key=objective_order):
        own = inputs[inputs["objective"] == objective]
        methods = sorted(set(own["method"]))
        header = ["trigger", *(f"`{name}` {number}" for number in ("AUROC", "TPR / F1")
                               for name in methods)]  # fmt: skip
        lines = [f"## `{objective}`", "", f"| {' | '.join(header)} |"]
        lines.append("|---|" + "--:|" * (len(header) - 1))
        attacked = own[own["trigger"] != ""].set_index(["trigger", "method"])
        for trigger in sorted(set(attacked.index.get_level_values(0)), key=attack_order):
            rows = [attacked.loc[(trigger, name)] for name in methods]
            numbers = [f"{row['auroc']:.2f}" for row in rows]
            numbers += [f"{100 * row['tpr']:.0f} / {100 * row['f1']:.0f}" for row in rows]
            lines.append(f"| `{trigger}` | {' | '.join(numbers)} |")
        means = attacked.groupby("method")[list(_NUMBERS)].mean()
        numbers = [f"{means.loc[name, 'auroc']:.2f}" for name in methods]
        numbers += [f"{100 * means.loc[name, 'tpr']:.0f} / {100 * means.loc[name, 'f1']:.0f}"
                    for name in methods]  # fmt: skip
        lines.append(f"| mean | {' | '.join(numbers)} |")
        rates = own.groupby("method")["fpr"]
        said = [f"`{n}` {100 * rates.min()[n]:.1f} to {100 * rates.max()[n]:.1f}" for n in methods]
        lines += ["", f"FPR on clean images, lowest to highest of all victims: {', '.join(said)}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


@styled
def draw(inputs: pd.DataFrame) -> Figure:
    """Plot the AUROC: a panel per objective, a row per trigger, a mark per detector."""
    attacked = inputs[inputs["trigger"] != ""]
    objectives = sorted(set(attacked["objective"]), key=objective_order)
    triggers = sorted(set(attacked["trigger"]), key=attack_order)
    looks = dict(zip(sorted(set(attacked["method"])), _LOOKS, strict=False))
    keys = [key(name, marker=one.marker, color=one.color, linestyle="none", markersize=4)
            for name, one in looks.items()]  # fmt: skip
    high = 0.22 * len(triggers) + 0.7 + key_height(keys, DOUBLE)
    figure = Figure((DOUBLE, high), layout="constrained")
    panels = figure.subplots(1, len(objectives), squeeze=False, sharex=True, sharey=True)
    for axes, objective in zip(panels[0], objectives, strict=True):
        axes.axvline(0.5, color=GRAY, linestyle=(0, (2, 1.5)), linewidth=0.9)
        for method, one in looks.items():
            own = attacked[(attacked["objective"] == objective) & (attacked["method"] == method)]
            places = own["trigger"].map(triggers.index)
            axes.plot(own["auroc"], places, one.marker, color=one.color, markersize=4, alpha=0.9)
        axes.set(title=objective, xlim=(-0.03, 1.03))
    panels[0, 0].set_yticks(range(len(triggers)), triggers)
    panels[0, 0].invert_yaxis()
    label_bottoms(panels, "AUROC of triggered against clean images")
    key_below(figure, keys, DOUBLE)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files; with ``--draw``, from the ``inputs.csv`` that OUT has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--draw", action="store_true", help="only the table and the figure")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "inputs.csv"
    if not asked.draw:
        Results(inputs_below(RESULTS)).inputs_scored.to_csv(path, index=False, float_format="%.6g")
    inputs = pd.read_csv(path, keep_default_na=False, na_values={n: [""] for n in _NUMBERS})
    if (inputs["trigger"] == "").all():
        raise SystemExit("This run has no victim of an attack that a detector of inputs scored.")
    (asked.out / "table.md").write_text(text_of(inputs), encoding="utf-8")
    save(draw(inputs), asked.out, "auroc")


if __name__ == "__main__":
    main()
