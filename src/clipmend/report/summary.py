"""``metrics.json``: the table's numbers as nested names, which `dvc metrics diff` compares."""

from typing import Any

import pandas as pd

from clipmend.engine.cards import canonical
from clipmend.report.cells import groups, records
from clipmend.report.order import under

RATES = ("clean_accuracy", "attack_success_rate")
DETECTION = ("auroc", "average_precision")


def metrics_text(table: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Return means over seeds: corpus, objective, attack, then repair or detector, then metric."""
    stated: dict[str, Any] = {"evaluate": {}, "detect": {}}
    for row in records(table):
        attack = f"{row['attack']}{under(row['attack'], row['trigger'])}"
        place = (row["corpus"], row["objective"], attack, row["method"])
        _put(stated["evaluate"], place, {name: row[name] for name in RATES})
    for place, rows in groups(judged, "corpus", "objective", "attack", "method"):
        means = rows[list(DETECTION)].astype(float).mean()
        if means.notna().all():
            _put(stated["detect"], place, {name: float(means[name]) for name in DETECTION})
    return canonical(stated, indent=1) + "\n"


def _put(nested: dict[str, Any], place: tuple[str, ...], value: dict[str, float]) -> None:
    for name in place:
        nested = nested.setdefault(name, {})
    nested.update(value)
