"""``metrics.json``: the means of the tables under nested names, for ``dvc metrics diff``."""

from typing import Any

from clipmend.engine.cards import canonical
from clipmend.report.cells import ATTACK, CLEAN, groups, records
from clipmend.report.order import under
from clipmend.report.results import Results


def metrics_text(results: Results) -> str:
    """Return means over seeds: corpus, objective, attack, then repair or detector, then metric."""
    nested: dict[str, Any] = {"evaluate": {}, "detect": {}}
    for row in records(results.means):
        attack = f"{row['attack']}{under(row['attack'], row['trigger'])}"
        names = ("evaluate", row["corpus"], row["objective"], attack, row["method"])
        _put(nested, names, {metric: row[metric] for metric in (CLEAN, ATTACK)})
    for names, rows in groups(results.detectors, "corpus", "objective", "attack", "method"):
        # An unpoisoned victim has no AUROC, so it has no entry.
        means = rows[["auroc", "average_precision"]].astype(float).mean()
        if means.notna().all():
            _put(nested, ("detect", *names), {str(k): float(v) for k, v in means.items()})
    return canonical(nested, indent=1) + "\n"


def _put(nested: dict[str, Any], names: tuple[str, ...], values: dict[str, float]) -> None:
    for name in names:
        nested = nested.setdefault(name, {})
    nested.update(values)
