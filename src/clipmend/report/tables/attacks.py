"""The attacks: what they poison, how visible they are, and what they do to undefended victims.

PSNR is the peak signal-to-noise ratio, SSIM the structural similarity.
"""

from typing import Any

import pandas as pd

from clipmend.engine.cell import UNPOISONED
from clipmend.report.cells import ATTACK, CLEAN, SHORT, TARGET, groups, present, records
from clipmend.report.order import UNDEFENDED, is_poisoned, objective_order
from clipmend.report.results import Results
from clipmend.report.table import Section, Table, with_interval

TITLE = "Attacks, and what they do undefended"
_HEADER = ("trigger", "target", "poisons", "rate %", "PSNR dB", "SSIM", "pixels changed %")
_SUCCESS = {
    ATTACK: SHORT[ATTACK],
    f"{ATTACK}_image": f"{SHORT[ATTACK]}, image alone",
    f"{ATTACK}_text": f"{SHORT[ATTACK]}, text alone",
}
_METRICS = {CLEAN: SHORT[CLEAN], TARGET: SHORT[TARGET], **_SUCCESS}


def section(results: Results) -> Section:
    """Return a table per corpus: a row per trigger, beside the undefended victims."""
    undefended = results.means[results.means["method"] == UNDEFENDED]
    attacks = results.attacks
    poisoning = attacks[attacks["attack"].map(is_poisoned).astype(bool)]
    tables = [
        _table(str(corpus), rows, undefended[undefended["corpus"] == corpus])
        for (corpus,), rows in groups(poisoning, "corpus")
    ]
    return Section(TITLE, tables, definitions=results.attack_definitions)


def _table(corpus: str, attacks: pd.DataFrame, undefended: pd.DataFrame) -> Table:
    objectives = sorted(set(undefended["objective"]), key=objective_order)
    metrics = present(_METRICS, undefended)
    targets = dict(zip(attacks["trigger"], attacks["target"], strict=True))
    # Poisoned victims by trigger, unpoisoned ones by target.
    poisoned: dict[tuple[str, str], dict[str, Any]] = {}
    clean: dict[tuple[str, str], dict[str, Any]] = {}
    for row in records(undefended):
        trigger, objective = row["trigger"], row["objective"]
        if is_poisoned(row["attack"]):
            poisoned[trigger, objective] = row
        elif trigger in targets:
            # Nothing was poisoned, so an attack success rate would mislead here.
            clean[targets[trigger], objective] = row | dict.fromkeys(_SUCCESS)

    def measured(victims: dict[tuple[str, str], dict[str, Any]], name: str) -> list[str]:
        cells = [victims.get((name, objective), {}) for objective in objectives]
        return [with_interval(row, metric) for row in cells for metric in metrics]

    rows = [
        (UNPOISONED, target, "0", *[""] * 4, *measured(clean, target))
        for target in dict.fromkeys(target for target, _ in clean)
    ]
    rows += [
        (*_poisoning(str(trigger), seeds), *measured(poisoned, str(trigger)))
        for trigger, seeds in attacks.groupby("trigger", sort=False)
    ]
    headings = [f"{name} {_METRICS[metric]}" for name in objectives for metric in metrics]
    return Table.of(corpus, (*_HEADER, *headings), rows)


def _poisoning(trigger: str, seeds: pd.DataFrame) -> tuple[str, ...]:
    """Return what an attack poisons, as means over seeds."""
    target, text = seeds["target"].iloc[0], seeds["text"].iloc[0]
    pairs = ("poisons", "image_only", "text_only")
    poisons, image_only, text_only = (seeds[name].fillna(0).mean() for name in pairs)
    single = f" (and {image_only:g} with the image trigger alone, {text_only:g} with the text's)"
    return (
        trigger,
        target if pd.isna(text) else f"{target}, `{text}`",
        f"{poisons:g}{single if image_only + text_only else ''}",
        f"{100 * seeds['poison_rate'].mean():.2f}",
        f"{seeds['psnr'].mean():.1f}",
        f"{seeds['ssim'].mean():.3f}",
        f"{100 * seeds['changed'].mean():.1f}",
    )
