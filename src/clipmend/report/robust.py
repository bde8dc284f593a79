"""Accuracy under adversarial attack, beside what the backdoor does: both kinds of robustness."""

import re
from collections.abc import Mapping

import pandas as pd

from clipmend.report.cells import groups, per_victim, records
from clipmend.report.order import is_poisoned, method_order
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed, lowest_to_highest, method_label

ROBUST = "robust_accuracy"
ENSEMBLE = "robust_accuracy_ensemble"


def at_epsilons(table: pd.DataFrame, metric: str) -> dict[int, str]:
    """Return the columns of a metric under attack, by the bound on a pixel's change, of 255."""
    found = {}
    for column in table.columns:
        if matched := re.fullmatch(rf"{metric}_eps(\d+)", column):
            found[int(matched[1])] = column
    return dict(sorted(found.items()))


def accuracy_under_attack(cells: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus and objective: means over victims, in percent.

    With the lowest and the highest: victims of several attacks are no sample of one thing. None
    where no cell was attacked. A victim that is measured under several triggers counts once.
    """
    columns = _columns(cells)
    if not columns:
        return []
    return [
        _table(f"{corpus}, {objective}: mean over victims (lowest to highest)", group, columns)
        for (corpus, objective), group in groups(cells, "corpus", "objective")
        if group[list(columns.values())].notna().any(axis=None)
    ]


def budget_notes(cells: pd.DataFrame, definitions: Mapping[str, str]) -> list[str]:
    """Return what accuracy under attack means, a line per budget."""
    return [
        f"{heading[0].upper()}{heading[1:]} ({column}): {definitions[column]}"
        for heading, column in _columns(cells).items()
        if column in definitions
    ]


def _columns(cells: pd.DataFrame) -> dict[str, str]:
    """Return the columns of accuracy under attack, by their heading."""
    named = {"robust": ROBUST, "AutoAttack": ENSEMBLE}
    return {
        f"{name} {epsilon}/255": column
        for name, metric in named.items()
        for epsilon, column in at_epsilons(cells, metric).items()
    }


def _table(title: str, cells: pd.DataFrame, columns: Mapping[str, str]) -> Printed:
    victims = per_victim(cells, CLEAN, ATTACK, *columns.values())
    poisoned = victims["attack"].map(is_poisoned)
    parts = [
        (victims[poisoned], [CLEAN, ATTACK, *columns.values()]),
        (victims[~poisoned], [CLEAN, *columns.values()]),
    ]
    methods = {(row["method"], row["stage"], bool(row["control"])) for row in records(victims)}
    rows = []
    for method, stage, control in sorted(methods, key=lambda one: (method_order(one[0]), one[1])):
        entries = [Entry(method_label(method, control=control))]
        for part, metrics in parts:
            ours = part[(part["method"] == method) & (part["stage"] == stage)]
            entries.append(Entry(str(len(ours))))
            entries += [Entry(lowest_to_highest(ours[metric])) for metric in metrics]
        rows.append(tuple(entries))
    header = (
        "method",
        "poisoned victims",
        "CA",
        "ASR",
        *columns,
        "unpoisoned victims",
        "CA",
        *columns,
    )
    return Printed(title, header, tuple(rows))
