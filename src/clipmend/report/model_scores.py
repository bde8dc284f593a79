"""``model_scores.csv``: what the detectors that judge a whole model say of each victim."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clipmend.engine.job import Input
from clipmend.report.cells import records
from clipmend.report.order import Victim, inputs_of, victim_of, victim_order
from clipmend.report.table import Entry, Printed
from clipmend.report.truth import count_poisons, overlay_of

COLUMNS = (
    "corpus",
    "attack",
    "objective",
    "seed",
    "stage",
    "method",
    "is_backdoored",
    "found",
    "statistic",
    "threshold",
    "n_images",
    "n_poisoned",
)

DEFINITIONS = {
    "is_backdoored": "Whether the detector counts the model as backdoored: it compares its "
    "statistic with its threshold.",
    "found": "Whether the detector reached what it searched for; not backdoored without it is the "
    "absence of evidence.",
}


@dataclass(frozen=True)
class Judged:
    """A victim as one detector judged it.

    Attributes:
        stated: the detector's ``model_score.json``.
        n_poisoned: how many of the victim's training pairs were poisoned.
    """

    victim: Victim
    method: str
    stated: Mapping[str, Any]
    n_poisoned: int


def judged_victims(inputs: Mapping[str, Input]) -> list[Judged]:
    """Return every verdict, in the report's order.

    Reads ``model_score.json`` of ``detect`` and, for the truth, ``overlay.parquet`` of ``poison``.
    A detector that scores pairs writes no verdict, and has no row.
    """
    found = []
    for given in inputs_of(inputs, "detect"):
        path, victim = given.folder / "model_score.json", victim_of(given.cell)
        if path.is_file():
            stated = json.loads(path.read_text(encoding="utf-8"))
            count = count_poisons(overlay_of(inputs, victim))
            found.append(Judged(victim, given.method, stated, count))
    return sorted(found, key=lambda one: (victim_order(one.victim), one.method))


def verdicts_table(judged: Iterable[Judged]) -> pd.DataFrame:
    """Return ``model_scores.csv``, a row per victim and detector."""
    rows = [
        {
            **vars(one.victim),
            "stage": "detect",
            "method": one.method,
            **{name: one.stated[name] for name in COLUMNS if name in one.stated},
            "n_poisoned": one.n_poisoned,
            **one.stated["numbers"],
        }
        for one in judged
    ]
    further = sorted({name for row in rows for name in row} - set(COLUMNS))
    return pd.DataFrame(rows, columns=[*COLUMNS[:-2], *further, *COLUMNS[-2:]])


def verdict_definitions(judged: Iterable[Judged]) -> dict[str, str]:
    """Return what each number of the verdicts means, in the words of those who took it."""
    stated: dict[str, str] = {}
    for one in judged:
        stated |= one.stated["definitions"]
    return (DEFINITIONS | dict(sorted(stated.items()))) if stated else {}


def printed_verdicts(table: pd.DataFrame) -> Printed | None:
    """Return ``model_scores.csv`` as it is printed; None where no model was judged."""
    if table.empty:
        return None
    names = ("method", "corpus", "attack", "objective", "seed")
    rows = tuple(
        (
            *(Entry(str(row[name])) for name in names),
            Entry("backdoored" if row["is_backdoored"] else "not backdoored"),
            Entry(_statistic(row)),
            Entry("yes" if row["found"] else "no"),
            *(Entry(f"{row[count]:,}") for count in ("n_images", "n_poisoned")),
        )
        for row in records(table)
    )
    header = (*names, "verdict", "statistic", "found", "images", "poisoned pairs (the truth)")
    return Printed("Every victim, judged as a whole", header, rows)


def _statistic(row: Mapping[str, Any]) -> str:
    name = row["statistic"]
    return f"{name} {row[name]:.3f} (threshold {row['threshold']:g})"
