"""What each repair changes: its metrics minus those of the undefended model on the same victim."""

import pandas as pd

from clipmend.report.cells import CLEAN, PAIR, SHORT, groups, per_victim, present
from clipmend.report.order import UNDEFENDED, is_poisoned, method_order
from clipmend.report.results import Results
from clipmend.report.table import Section, Table, lowest_to_highest, method_label

TITLE = "Change against `none` on the same victims, in percentage points"


def section(results: Results) -> Section:
    """Return a table per corpus: means over victims, where each counts once.

    A method and ``none`` are paired by victim and trigger: they start from the same model and see
    the same test images. The changes under several triggers of one victim are averaged.
    """
    cells = results.cells
    metrics = present(SHORT, cells)
    # Paired on the same images, a change has much less noise than a difference of two means.
    start = cells.loc[cells["method"] == UNDEFENDED, [*PAIR, *metrics]]
    others = cells[cells["method"] != UNDEFENDED]
    paired = others.merge(start, on=list(PAIR), suffixes=("", "_start"))
    for metric in metrics:
        paired[metric] -= paired[f"{metric}_start"]
    change = per_victim(paired, *metrics)
    return Section(
        TITLE, [_table(str(corpus), rows) for (corpus,), rows in groups(change, "corpus")]
    )


def _table(title: str, change: pd.DataFrame) -> Table:
    metrics = present(SHORT, change)
    poisoned = change["attack"].map(is_poisoned)
    header = (
        "method",
        "poisoned victims",
        *(f"{SHORT[metric]}, mean (lowest to highest)" for metric in metrics),
        "unpoisoned victims",
        f"{SHORT[CLEAN]}, mean (lowest to highest)",
    )
    rows = []
    for method in sorted(set(change["method"]), key=method_order):
        own = change["method"] == method
        hit, clean = change[own & poisoned], change[own & ~poisoned]
        rows.append(
            (
                method_label(method, control=bool(change.loc[own, "control"].iloc[0])),
                str(len(hit)),
                *(lowest_to_highest(hit[metric], "+.1f") for metric in metrics),
                str(len(clean)),
                lowest_to_highest(clean[CLEAN], "+.1f"),
            )
        )
    return Table.of(title, header, rows)
