"""Defenses side by side: repairs, and objectives that defend while the model is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from clipmend.report.cells import groups, records
from clipmend.report.order import UNDEFENDED, is_poisoned, method_order, objective_order, under
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed, tenths, with_interval

PRETRAINING = "pretraining"
NOTE = (
    "Defenses side by side stand by ASR as printed, then by CA. What they need: `trusted`, clean "
    "pairs; `train`, the training pairs, poison among them; `pretraining`, to be the one who "
    "trains. A defense at training time has no objective beside it: it is one."
)


def side_by_side(table: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus, attack and trigger, by ASR as printed, then by CA.

    Of controls nothing is shown, nor of repairs of a model that was defended in training. The
    undefended victims stand among the rows, to be compared with.
    """
    shown = table[table["attack"].map(is_poisoned) & ~table["control"].astype(bool)]
    return [
        _ranked(f"{corpus}, {attack}{under(attack, trigger)}", list(_defenses(group)))
        for (corpus, attack, trigger), group in groups(shown, "corpus", "attack", "trigger")
    ]


def defended_objectives(cells: pd.DataFrame) -> frozenset[str]:
    """Return the objectives that are defenses: whoever uses them is the one who trains."""
    trained = cells[(cells["method"] == UNDEFENDED) & (cells["needs"] == PRETRAINING)]
    return frozenset(trained["objective"])


def _defenses(table: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Yield the rows that are ranked, each under its defense's name and with its model's."""
    defended = defended_objectives(table)
    for row in records(table):
        if row["objective"] not in defended:
            yield row | {"defense": row["method"], "model": row["objective"]}
        elif row["method"] == UNDEFENDED:
            yield row | {"defense": row["objective"], "model": ""}


def _ranked(title: str, defenses: list[Mapping[str, Any]]) -> Printed:
    rows = tuple(
        (
            Entry(row["defense"]),
            Entry(row["model"]),
            Entry((row["needs"] or "nothing").replace("+", ", ")),
            Entry(with_interval(row, ATTACK)),
            Entry(with_interval(row, CLEAN)),
            Entry(str(row["n_seeds"])),
        )
        for row in sorted(defenses, key=_rank)
    )
    return Printed(title, ("defense", "objective", "needs", "ASR", "CA", "seeds"), rows)


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = method_order(row["defense"]), objective_order(row["objective"])
    return (tenths(row[ATTACK]), -tenths(row[CLEAN]), *names)
