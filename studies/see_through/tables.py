"""The tables of this study, from its ``cells.csv``, as ``table.md``.

python studies/see_through/tables.py [folder, by default studies/see_through]
"""

import sys
from pathlib import Path

import pandas as pd
from scipy.stats import binomtest

RATES = {
    "clean_accuracy": "CA",
    "attack_success_rate": "ASR",
    "target_accuracy": "target",
    "triggered_accuracy": "triggered",
}
PLANTED = 0.5  # the ASR from which a victim counts as backdoored
METHODS = ("none", "ubt", "see_through")
MORE = {
    "two_epochs": "Two epochs, the default of today, seed 0",
    "photographs": "Photographs",
}
"""Folders with further cells, and the titles of their tables."""
VICTIM = ["corpus", "attack", "trigger", "objective", "seed"]


def rows(cells: pd.DataFrame) -> list[str]:
    """Return the lines of one table: a row per victim and trigger, a column per method."""
    methods = [name for name in METHODS if name in set(cells["method"])]
    rates = [name for name in RATES if name in cells]
    labels = " / ".join(RATES[name] for name in rates)
    lines = [
        "| trigger | objective | seed | "
        + " | ".join(f"`{name}`: {labels}" for name in methods)
        + " |",
        "|---|---|--:|" + "---|" * len(methods),
    ]
    for (_, _, trigger, objective, seed), group in cells.groupby(VICTIM, sort=True):
        by_method = group.set_index("method")
        values = [
            " / ".join(f"{100 * float(by_method[rate][name]):.1f}" for rate in rates)
            if name in by_method.index
            else ""
            for name in methods
        ]
        lines.append(f"| `{trigger}` | `{objective}` | {seed} | " + " | ".join(values) + " |")
    return lines


def summary(cells: pd.DataFrame) -> list[str]:
    """Return the lines of a table with the change of each rate from the victim to the repair."""
    poisoned = cells[cells["attack"] != "unpoisoned"]
    before = poisoned[poisoned["method"] == "none"].set_index(VICTIM)
    lines = [
        "| repair | n | found | mean ASR | largest ASR | mean change of CA | worst "
        "| mean change of target | worst | mean triggered accuracy |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in (name for name in METHODS[1:] if name in set(cells["method"])):
        after = poisoned[poisoned["method"] == name].set_index(VICTIM)
        own = before.loc[before.index.intersection(after.index)]
        own = own[own["attack_success_rate"] >= PLANTED]
        after = after.loc[own.index]
        asr = 100 * after["attack_success_rate"]
        ca = 100 * (after["clean_accuracy"] - own["clean_accuracy"])
        target = 100 * (after["target_accuracy"] - own["target_accuracy"])
        seen = 100 * after["triggered_accuracy"]
        found = int(after["found"].sum())
        lines.append(
            f"| `{name}` | {len(after)} | {found} | {asr.mean():.2f} | {asr.max():.1f} | "
            f"{ca.mean():+.2f} | {ca.min():+.1f} | {target.mean():+.1f} | {target.min():+.1f} | "
            f"{seen.mean():.1f} |"
        )
    return lines


def ceiling(cells: pd.DataFrame) -> list[str]:
    """Return the lines of a table of accuracy under each trigger, beside that of clean models.

    A trigger hides or moves a part of each image, so that an unpoisoned model, which no trigger
    fools, sees less as well. No repair can be expected to do better.
    """
    none = cells[cells["method"] == "none"]
    clean = none[none["attack"] == "unpoisoned"].groupby("trigger").mean(numeric_only=True)
    victims = none[none["attack"] != "unpoisoned"].set_index(VICTIM)
    mended = cells[cells["method"] == "see_through"].set_index(VICTIM)
    planted = victims.index[victims["attack_success_rate"] >= PLANTED]
    mended = mended.loc[mended.index.intersection(planted)].reset_index()
    lines = [
        "| trigger | victims | CA after `see_through` | triggered accuracy after `see_through` "
        "| of an unpoisoned model | difference |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for trigger, own in mended.groupby("trigger"):
        accuracy, seen = (
            100 * own[rate].mean() for rate in ("clean_accuracy", "triggered_accuracy")
        )
        most = 100 * clean["triggered_accuracy"].get(trigger, float("nan"))
        lines.append(
            f"| `{trigger}` | {len(own)} | {accuracy:.1f} | {seen:.1f} | {most:.1f} "
            f"| {seen - most:+.1f} |"
        )
    return lines


def few_pairs(cells: pd.DataFrame) -> list[str]:
    """Return the lines of a table of victims with few poisoned pairs, before and after the repair.

    A group is counted as found for a victim as a whole, so for every trigger of `multi`.
    """
    lines = [
        "| trigger | objective | ASR of the victim | backdoor | found | ASR after `see_through` "
        "| change of CA | triggered accuracy |",
        "|---|---|--:|---|---|--:|--:|--:|",
    ]
    for (_, _, trigger, objective, _), group in cells.groupby(VICTIM, sort=True):
        victim, mended = (
            group[group["method"] == name].iloc[0] for name in ("none", "see_through")
        )
        rate = float(victim["attack_success_rate"])
        change = 100 * (mended["clean_accuracy"] - victim["clean_accuracy"])
        lines.append(
            f"| `{trigger}` | `{objective}` | {100 * rate:.1f} "
            f"| {'yes' if rate >= PLANTED else 'no'} | {'yes' if mended['found'] else 'no'} "
            f"| {100 * mended['attack_success_rate']:.1f} | {change:+.1f} "
            f"| {100 * mended['triggered_accuracy']:.1f} |"
        )
    return lines


def false_alarms(models: pd.DataFrame) -> list[str]:
    """Return the lines of a table with the unpoisoned models in which a group was found."""
    groups = [*models.groupby("corpus"), ("all", models)]
    lines = [
        "| pairs | models | alarms | 95 % interval of the rate | smallest p-value |",
        "|---|--:|--:|---|--:|",
    ]
    for name, own in groups:
        alarms = int(own["found"].sum())
        interval = binomtest(alarms, len(own)).proportion_ci(method="exact")
        lines.append(
            f"| {name} | {len(own)} | {alarms} | {100 * interval.low:.1f} to "
            f"{100 * interval.high:.1f} % | {own['p_value'].min():.2g} |"
        )
    return lines


def main(folder: Path) -> None:
    """Write ``table.md`` of a study's folder."""
    cells = pd.read_csv(folder / "cells.csv", keep_default_na=False, na_values=[""])
    parts = ["## Summary, backdoors with an ASR of at least 50 %", "", *summary(cells)]
    for corpus, own in cells.groupby("corpus"):
        if "unpoisoned" in set(own["attack"]):
            parts += ["", f"## `{corpus}`, accuracy under the trigger", "", *ceiling(own)]
        poisoned = own[own["attack"] != "unpoisoned"]
        parts += ["", f"## `{corpus}`, all victims", "", *rows(poisoned)]
    for name, title in MORE.items():
        if (path := folder / name / "cells.csv").exists():
            more = pd.read_csv(path, keep_default_na=False, na_values=[""])
            more = more[more["attack"] != "unpoisoned"]
            parts += ["", f"## {title}", "", *summary(more), "", *rows(more)]
    if (folder / "rates.csv").exists():
        few = pd.read_csv(folder / "rates.csv", keep_default_na=False, na_values=[""])
        parts += ["", "## 80 and 20 poisoned pairs of 8,000", "", *few_pairs(few)]
    alarms = folder / "false_alarms.csv"
    if alarms.exists():
        parts += ["", "## False alarms of `shared_pattern`", "", *false_alarms(pd.read_csv(alarms))]
    (folder / "table.md").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
