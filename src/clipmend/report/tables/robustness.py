"""Accuracy under adversarial examples, beside the attack success rate of the backdoor.

PGD is projected gradient descent; AutoAttack is a fixed ensemble of attacks.
"""

from collections.abc import Mapping

import pandas as pd

from clipmend.report.cells import (
    ATTACK,
    CLEAN,
    ENSEMBLE,
    ROBUST,
    at_epsilons,
    groups,
    per_victim,
    records,
)
from clipmend.report.order import is_poisoned, method_order
from clipmend.report.results import Results
from clipmend.report.table import Section, Table, lowest_to_highest, method_label

TITLE = "Accuracy under attack, in percent"


def section(results: Results) -> Section:
    """Return a table per corpus and objective in which any cell was attacked.

    Means are over victims, where each counts once, with the lowest and the highest: victims of
    different attacks are not a sample of one population.
    """
    cells = results.cells
    # The epsilons are settings of the run, so the columns are found by their pattern.
    metrics = {
        f"{name} {epsilon}/255": column
        for name, metric in (("robust", ROBUST), ("AutoAttack", ENSEMBLE))
        for epsilon, column in at_epsilons(cells, metric).items()
    }
    tables = [
        _table(f"{corpus}, {objective}: mean over victims (lowest to highest)", rows, metrics)
        for (corpus, objective), rows in groups(cells, "corpus", "objective")
        if metrics and rows[list(metrics.values())].notna().any(axis=None)
    ]
    notes = [
        f"{heading[0].upper()}{heading[1:]} ({column}): {results.definitions[column]}"
        for heading, column in metrics.items()
        if column in results.definitions
    ]
    return Section(TITLE, tables, notes)


def _table(title: str, cells: pd.DataFrame, metrics: Mapping[str, str]) -> Table:
    victims = per_victim(cells, CLEAN, ATTACK, *metrics.values())
    poisoned = victims["attack"].map(is_poisoned)
    parts = [
        (victims[poisoned], [CLEAN, ATTACK, *metrics.values()]),
        (victims[~poisoned], [CLEAN, *metrics.values()]),
    ]
    methods = {(row["method"], row["stage"], bool(row["control"])) for row in records(victims)}
    rows = []
    for method, stage, control in sorted(methods, key=lambda one: (method_order(one[0]), one[1])):
        entries = [method_label(method, control=control)]
        for part, columns in parts:
            own = part[(part["method"] == method) & (part["stage"] == stage)]
            entries += [str(len(own)), *(lowest_to_highest(own[column]) for column in columns)]
        rows.append(entries)
    poisoned_header = ("poisoned victims", "CA", "ASR", *metrics)
    return Table.of(title, ("method", *poisoned_header, "unpoisoned victims", "CA", *metrics), rows)
