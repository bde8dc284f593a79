"""Defenses side by side: repairs, and objectives that defend while the model is trained."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from clipmend.report.cells import ATTACK, CLEAN, groups, records
from clipmend.report.order import UNDEFENDED, is_poisoned, method_order, objective_order, under
from clipmend.report.results import Results
from clipmend.report.table import Section, Table, tenths, with_interval

TITLE = "Defenses side by side, in percent"
NOTE = (
    "Defenses side by side are sorted by ASR as printed, then by CA. They need: `trusted`, clean "
    "pairs; `train`, the training pairs, poison among them; `pretraining`, control over the "
    "training. A defense at training time is itself the objective, so it has none beside it."
)
_HEADER = ("defense", "objective", "needs", "ASR", "CA", "seeds")


def section(results: Results) -> Section:
    """Return a table per corpus, attack and trigger, with the undefended victims among the rows.

    Controls are left out, and so are repairs of models that were defended in training.
    """
    means = results.means
    rows = means[means["attack"].map(is_poisoned) & ~means["control"].astype(bool)]
    tables = [
        _table(f"{corpus}, {attack}{under(attack, trigger)}", part)
        for (corpus, attack, trigger), part in groups(rows, "corpus", "attack", "trigger")
    ]
    return Section(TITLE, tables, [NOTE] if len(results.cells) else [])


def _table(title: str, means: pd.DataFrame) -> Table:
    # Some objectives are defenses: only who trains the model can use them.
    trained = means[(means["method"] == UNDEFENDED) & (means["needs"] == "pretraining")]
    defending = set(trained["objective"])
    defenses = []
    for row in records(means):
        # A repair of a defended model is a combination of two defenses, and not ranked.
        if row["objective"] not in defending:
            defenses.append(row | {"defense": row["method"], "model": row["objective"]})
        elif row["method"] == UNDEFENDED:
            defenses.append(row | {"defense": row["objective"], "model": ""})
    rows = []
    for row in sorted(defenses, key=_rank):
        needs = (row["needs"] or "nothing").replace("+", ", ")
        rates = with_interval(row, ATTACK), with_interval(row, CLEAN)
        rows.append((row["defense"], row["model"], needs, *rates, str(row["n_seeds"])))
    return Table.of(title, _HEADER, rows)


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    # By the printed digits: a difference that no reader sees must not decide a rank.
    names = method_order(row["defense"]), objective_order(row["objective"])
    return (tenths(row[ATTACK]), -tenths(row[CLEAN]), *names)
