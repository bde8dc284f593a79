"""Does a backdoor come back? Fine-tunes repaired models on clean pairs without the target.

Reads the victims and the repaired models of the finished run in this folder. Each is fine-tuned on
the trusted pairs whose caption does not name the target. CA is clean accuracy and ASR is attack
success rate; both are measured every ten steps on images of ``test``, sampled by their ids.
Writes ``curves.csv``, in which finished models are kept when the script is started again;
``table.csv`` and ``table.md``; and the figure.

python studies/rebound/rebound.py OUT [--images 1000] [--draw]
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_sample, load_split, read_vocabulary
from clipmend.data.words import words_of
from clipmend.engine.cell import NO_REPAIR, RESULTS, UNPOISONED, Place
from clipmend.engine.job import Input
from clipmend.engine.runner import inputs_below
from clipmend.methods.attacks.trigger import Trigger, prompts_under, read_triggers
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.ft import FT
from clipmend.metrics.rates import Rate, attack_success_rate, clean_accuracy, rate
from clipmend.model.clip import Clip, load
from clipmend.model.fit import Hooks, Measure, fit_all
from clipmend.model.zero_shot import class_cosines, class_embeds
from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.order import attack_order, method_order
from clipmend.report.style import (
    DOUBLE,
    GRAY,
    fitted,
    key,
    key_below,
    key_height,
    label_bottoms,
    look,
    percent_ticks,
    save,
    styled,
)

STEPS, EVERY = 300, 10
LR = 3e-4
"""The largest rate of ``studies/tuning`` at which fine-tuning alone removes no backdoor."""
COLUMNS = ("cell", "trigger", "step", ATTACK, "n_triggered", CLEAN, "n_clean")
_STAGES = ("pretrain", "unlearn", "baselines")
_RATES = ("ca_before", "ca_after", "asr_before", "asr_highest", "asr_after", "area")


@dataclass(frozen=True)
class Subject:
    """A model that is fine-tuned, and what it is fine-tuned on and measured with.

    Attributes:
        cell: the victim, or the repaired model.
        corpus: the folder of the corpus.
        triggers: those of its attack; of a model that was never poisoned, of all attacks.
    """

    cell: Input
    corpus: Path
    triggers: tuple[Trigger, ...]


def subjects(cells: Mapping[str, Input]) -> Iterator[Subject]:
    """Yield the models of a run: all victims, repairs of attacks, and repairs of clean models."""
    models = [cell for cell in cells.values() if cell.stage in _STAGES]

    def order(cell: Input) -> tuple[bool, bool, str]:
        is_repair = cell.stage != "pretrain"
        return (is_repair, is_repair and cell.place.attack == UNPOISONED, cell.cell)

    for cell in sorted(models, key=order):
        poison = cell.place.at("poison")
        attacks = [poison.attack]
        if poison.attack == UNPOISONED:
            others = {one.place.attack for one in cells.values() if one.stage == "poison"}
            attacks = sorted(others - {UNPOISONED})
        places = [replace(poison, attack=attack).path for attack in attacks]
        triggers = [
            one for place in places if place in cells for one in read_triggers(cells[place])
        ]
        if triggers:
            corpus = cells[cell.place.at("download").path].folder
            yield Subject(cell, corpus, tuple(triggers))


def pairs_without(pairs: Pairs, targets: Iterable[str]) -> Pairs:
    """Return the pairs whose captions name none of the targets, by all words of each."""
    words = [words_of(target) for target in targets]
    rows = [
        row
        for row, caption in enumerate(pairs.captions)
        if not any(target <= words_of(caption) for target in words)
    ]
    return pairs.take(torch.tensor(rows, dtype=torch.long))


def measure_on_test(subject: Subject, images: int) -> Measure:
    """Return a function that measures CA, and the ASR of each trigger, on images of ``test``."""
    vocabulary = read_vocabulary(subject.corpus)
    test = load_sample(subject.corpus, "test", images)
    triggered = [trigger(test.images[:], test.ids) for trigger in subject.triggers]

    def measure(model: Clip) -> dict[str, float]:
        clean = clean_accuracy(
            class_cosines(model, test.images, class_embeds(model, vocabulary)), test.label
        )
        numbers: dict[str, float] = {CLEAN: clean.value, "n_clean": clean.n}
        for trigger, marked in zip(subject.triggers, triggered, strict=True):
            classes = class_embeds(model, trigger.vocabulary(vocabulary))
            target = vocabulary.label_of(trigger.target)
            cosines = class_cosines(model, marked, classes)
            asr = attack_success_rate(cosines, test.label, target_label=target)
            numbers |= {f"asr {trigger.name}": asr.value, f"n {trigger.name}": asr.n}
        return numbers

    return measure


def curve(subject: Subject, images: int, steps: int = STEPS) -> pd.DataFrame:
    """Fine-tune a model with ``ft``; return its rows of ``curves.csv``, by trigger and step."""
    trusted = load_split(subject.corpus, "trusted").blind()
    rest = pairs_without(trusted, {trigger.target for trigger in subject.triggers})
    # The loop measures after epochs, so an epoch has ``EVERY`` steps; a few pairs are left over.
    batch = len(rest) // EVERY
    pairs = rest.take(torch.arange(EVERY * batch))
    prompts = prompts_under(subject.triggers, read_vocabulary(subject.corpus))
    model = load(subject.cell.folder).prune_vocabulary([*trusted.captions, *prompts])
    ft = FT(epochs=steps // EVERY, batch_size=batch, lr=LR)
    seed = subject.cell.seed or 0
    assets = Assets(model, trusted=lambda: pairs)
    tasks = ft.tasks(assets, stream(seed, "rebound/views"))
    hooks = Hooks(measure_on_test(subject, images), points=ft.epochs, label=subject.cell.cell)
    points = fit_all(model, tasks, stream(seed, "rebound/fit"), hooks)
    rows = [
        (subject.cell.cell, trigger.name, point.step, point.measured[f"asr {trigger.name}"],
         point.measured[f"n {trigger.name}"], point.measured[CLEAN], point.measured["n_clean"])
        for trigger in subject.triggers
        for point in points
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_curves(results: Path, path: Path, images: int) -> None:
    """Add the rows of every model that the file does not have; write them as they come."""
    known = set(pd.read_csv(path)["cell"]) if path.exists() else set()
    for subject in subjects(inputs_below(results)):
        if subject.cell.cell not in known:
            begun = process_time()
            rows = curve(subject, images)
            rows.to_csv(path, mode="a", header=not path.exists(), index=False)
            print(f"{subject.cell.cell}: {process_time() - begun:.0f} s of CPU time", flush=True)


def summarize(curves: pd.DataFrame) -> pd.DataFrame:
    """Return ``table.csv``, a row per model and trigger; rates are fractions.

    ``area`` is the mean ASR over the steps, by the trapezoid rule. ``comes_back`` says that the
    Wilson interval (95 %) at the highest ASR lies above that at step 0, and above that of the
    highest ASR of the control: the model that was never poisoned, fine-tuned alike.
    """
    rows = []
    for (cell, trigger), own in curves.groupby(["cell", "trigger"], sort=False):
        place, own = Place.parse(str(cell)), own.sort_values("step")
        asr, steps, first, last = own[ATTACK], own["step"], own.iloc[0], own.iloc[-1]
        rows.append({
            "attack": place.attack,
            "trigger": trigger,
            "objective": place.objective,
            "seed": place.seed,
            "method": place.method or NO_REPAIR,
            "ca_before": first[CLEAN],
            "ca_after": last[CLEAN],
            "n_clean": int(first["n_clean"]),
            "asr_before": first[ATTACK],
            "asr_highest": asr.max(),
            "step_highest": int(steps.iloc[asr.argmax()]),
            "asr_after": last[ATTACK],
            "area": float(np.trapezoid(asr, steps) / (steps.max() - steps.min())),
            "n_triggered": int(first["n_triggered"]),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    controls = table[(table["attack"] == UNPOISONED) & (table["method"] == NO_REPAIR)]
    keys = ["trigger", "objective", "seed"]
    control = controls.set_index(keys)["asr_highest"].reindex(pd.MultiIndex.from_frame(table[keys]))
    table["asr_control"] = control.to_numpy()
    table["comes_back"] = [
        row["attack"] != UNPOISONED
        and _interval(row, "asr_highest").low
        > max(_interval(row, name).high for name in ("asr_before", "asr_control"))
        for row in table.to_dict("records")
    ]
    return table.sort_values(
        ["attack", "trigger", "objective", "seed", "method"], key=_sort_keys, kind="stable"
    )


def _interval(row: Mapping[Any, Any], name: str) -> Rate:
    share = 0.0 if pd.isna(row[name]) else row[name]
    return rate(round(share * row["n_triggered"]), row["n_triggered"])


def _sort_keys(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return keys by which a column is in the order of the report."""
    orders = {"attack": attack_order, "method": method_order}
    order = orders.get(str(column.name))
    return column if order is None else column.map(order)


def text_of(table: pd.DataFrame) -> str:
    """Return ``table.md``: the poisoned models, and then the controls."""
    header = ("attack", "objective", "seed", "repair", "CA before", "CA after", "ASR before",
              "highest ASR", "at step", "ASR after", "area", "comes back", "n")  # fmt: skip
    lines = [f"| {' | '.join(header)} |", "|---|---|--:|---|" + "--:|" * 7 + "---|--:|"]
    for row in table.to_dict("records"):
        clean = row["attack"] == UNPOISONED
        attack = f"{UNPOISONED}, trigger `{row['trigger']}`" if clean else f"`{row['trigger']}`"
        rates = [f"{100 * row[name]:.1f}" for name in _RATES]
        rates.insert(4, str(row["step_highest"]))
        back = "" if clean else "**yes**" if row["comes_back"] else "no"
        named = attack, f"`{row['objective']}`", str(row["seed"]), f"`{row['method']}`"
        lines.append(f"| {' | '.join((*named, *rates, back, str(row['n_triggered'])))} |")
    return "\n".join(lines) + "\n"


@styled
def draw(curves: pd.DataFrame) -> Figure:
    """Plot a panel per trigger and objective: a line per repair and seed, over the steps."""
    places = curves["cell"].map(Place.parse)
    curves = curves.assign(
        attack=[place.attack for place in places],
        panel=[f"{t}, {p.objective}" for t, p in zip(curves["trigger"], places, strict=True)],
        method=[place.method or NO_REPAIR for place in places],
    )
    poisoned = curves[curves["attack"] != UNPOISONED]
    methods = sorted(set(poisoned["method"]), key=method_order)
    keys = [key(name, markersize=4, **look(name).line) for name in methods]
    keys.append(key("never poisoned", color=GRAY, linestyle=(0, (1, 1))))
    titles = sorted(set(poisoned["panel"]))
    figure = Figure((DOUBLE, 2.6 + key_height(keys, DOUBLE)), layout="constrained")
    panels = figure.subplots(1, len(titles), squeeze=False, sharey=True)
    for axes, title in zip(panels[0], titles, strict=True):
        _plot_panel(axes, curves[curves["panel"] == title])
        axes.set_title(fitted(title, len(titles), DOUBLE))
        percent_ticks(axes, y=True)
    panels[0, 0].set_ylabel("Attack success rate")
    label_bottoms(panels, "Step of fine-tuning on clean pairs")
    key_below(figure, keys, DOUBLE)
    return figure


def _plot_panel(axes: Axes, curves: pd.DataFrame) -> None:
    control = (curves["attack"] == UNPOISONED) & (curves["method"] == NO_REPAIR)
    for _, own in curves[control].groupby("cell"):
        axes.plot(own["step"], own[ATTACK], color=GRAY, linestyle=(0, (1, 1)))
    for (method, _), own in curves[curves["attack"] != UNPOISONED].groupby(["method", "cell"]):
        axes.plot(own["step"], own[ATTACK], **look(str(method)).line, markersize=2.8, markevery=6)


def main(out: Path, images: int, *, only_draw: bool = False) -> None:
    """Measure the models of this run, unless ``only_draw``; then write tables and figure."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "curves.csv"
    if not only_draw:
        write_curves(RESULTS, path, images)
    if not path.exists():
        raise SystemExit("This run has no victim of an attack; run `snakemake all` here first.")
    curves = pd.read_csv(path)
    table = summarize(curves)
    table.to_csv(out / "table.csv", index=False, float_format="%.6g")
    (out / "table.md").write_text(text_of(table), encoding="utf-8")
    save(draw(curves), out, "rebound")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--draw", action="store_true", help="only the tables and the figure")
    torch.set_num_threads(1)
    asked = parser.parse_args()
    main(asked.out, asked.images, only_draw=asked.draw)
