"""``attacks.csv``: what each attack plants, how visible it is, and what it does undefended."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from clipmend.engine.job import Input
from clipmend.report.cells import groups, records
from clipmend.report.order import (
    UNDEFENDED,
    UNPOISONED,
    attack_order,
    inputs_of,
    is_poisoned,
    objective_order,
)
from clipmend.report.table import (
    ATTACK,
    CLEAN,
    SHORT,
    TARGET,
    Entry,
    Printed,
    present,
    with_interval,
)

COLUMNS = (
    "corpus",
    "attack",
    "trigger",
    "seed",
    "target",
    "text",
    "poisons",
    "poison_rate",
    "image_only",
    "text_only",
    "psnr",
    "ssim",
    "changed",
    "n_measured",
    "sha256",
)
_PAIRS = ("poisons", "poison_rate", "image_only", "text_only")
_HEADER = ("trigger", "target", "poisons", "rate %", "PSNR dB", "SSIM", "pixels changed %")
_SUCCESS = {
    ATTACK: SHORT[ATTACK],
    f"{ATTACK}_image": f"{SHORT[ATTACK]}, image alone",
    f"{ATTACK}_text": f"{SHORT[ATTACK]}, text alone",
}
_MEASURED = {CLEAN: SHORT[CLEAN], TARGET: SHORT[TARGET], **_SUCCESS}


def attacks_table(inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return a row per trigger and seed. Reads ``triggers.json`` of ``poison``."""
    found = [row for given in inputs_of(inputs, "poison") for row in _rows(given)]
    found.sort(key=lambda row: (row["corpus"], attack_order(row["attack"]), row["seed"]))
    return pd.DataFrame(found, columns=list(COLUMNS))


def attack_definitions(inputs: Mapping[str, Input]) -> dict[str, str]:
    """Return what the measures of visibility mean, in the words of the cells that took them."""
    stated: dict[str, str] = {}
    for given in inputs_of(inputs, "poison"):
        stated |= _stated(given)["definitions"]
    return stated


def printed_attacks(attacks: pd.DataFrame, table: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus: a row per trigger, the undefended victims beside it.

    Args:
        table: ``table.csv``.
    """
    undefended = table[table["method"] == UNDEFENDED]
    shown = attacks[attacks["attack"].map(is_poisoned).astype(bool)]
    return [
        _printed(str(corpus), group, undefended[undefended["corpus"] == corpus])
        for (corpus,), group in groups(shown, "corpus")
    ]


def _rows(given: Input) -> Iterable[dict[str, Any]]:
    _, corpus, attack, _ = given.cell.split("/")
    for trigger in _stated(given)["triggers"]:
        strength = trigger["strength"] or {}
        yield {
            "corpus": corpus,
            "attack": attack,
            "trigger": trigger["name"],
            "seed": given.seed,
            **{name: trigger[name] for name in ("target", "text", *_PAIRS)},
            **{name: strength.get(name) for name in ("psnr", "ssim", "changed")},
            "n_measured": strength.get("n"),
            "sha256": trigger["sha256"],
        }


def _stated(given: Input) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((given.folder / "triggers.json").read_text("utf-8"))
    return stated


def _printed(corpus: str, attacks: pd.DataFrame, undefended: pd.DataFrame) -> Printed:
    objectives = sorted(set(undefended["objective"]), key=objective_order)
    metrics = present(_MEASURED, undefended)
    targets = dict(zip(attacks["trigger"], attacks["target"], strict=True))
    own, clean = _own(undefended, targets)

    def measured(at: Mapping[tuple[str, str], Mapping[str, Any]], name: str) -> Iterator[Entry]:
        for objective in objectives:
            yield from (_entry(at.get((name, objective), {}), metric) for metric in metrics)

    rows = [
        (Entry(UNPOISONED), Entry(target), Entry("0"), *[Entry("")] * 4, *measured(clean, target))
        for target in dict.fromkeys(target for target, _ in clean)
    ]
    rows += [
        (*_planted(str(trigger), group), *measured(own, str(trigger)))
        for trigger, group in attacks.groupby("trigger", sort=False)
    ]
    headings = [f"{one} {_MEASURED[metric]}" for one in objectives for metric in metrics]
    return Printed(corpus, (*_HEADER, *headings), tuple(rows))


def _own(
    undefended: pd.DataFrame, targets: Mapping[str, str]
) -> tuple[dict[tuple[str, str], Any], dict[tuple[str, str], Any]]:
    """Return poisoned victims by trigger and objective, unpoisoned ones by target and objective."""
    own, clean = {}, {}
    for row in records(undefended):
        trigger, objective = row["trigger"], row["objective"]
        if is_poisoned(row["attack"]):
            own[trigger, objective] = row
        elif trigger in targets:
            clean[targets[trigger], objective] = row | dict.fromkeys(_SUCCESS)
    return own, clean


def _entry(row: Mapping[str, Any], metric: str) -> Entry:
    return Entry(with_interval(row, metric) if row.get(metric) is not None else "")


def _planted(trigger: str, seeds: pd.DataFrame) -> tuple[Entry, ...]:
    """Return what is planted, in the mean over seeds."""
    target, text = seeds["target"].iloc[0], seeds["text"].iloc[0]
    named = target if pd.isna(text) else f"{target}, `{text}`"
    return (
        Entry(trigger),
        Entry(named),
        Entry(_counted(*(seeds[name].mean() for name in ("poisons", "image_only", "text_only")))),
        Entry(f"{100 * seeds['poison_rate'].mean():.2f}"),
        Entry(f"{seeds['psnr'].mean():.1f}"),
        Entry(f"{seeds['ssim'].mean():.3f}"),
        Entry(f"{100 * seeds['changed'].mean():.1f}"),
    )


def _counted(poisons: float, image_only: float, text_only: float) -> str:
    """Return how many pairs are poisoned, and how many have one of two keys beside."""
    if not image_only + text_only:
        return f"{poisons:g}"
    return f"{poisons:g} (and {image_only:g} with the image's key alone, {text_only:g} the text's)"
