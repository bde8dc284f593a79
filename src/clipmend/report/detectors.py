"""``detectors.csv``: how well each detector's scores tell poisoned pairs from the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from clipmend.engine.job import Input
from clipmend.report.cells import records
from clipmend.report.order import Victim, inputs_of, victim_of, victim_order
from clipmend.report.table import Entry, Printed
from clipmend.report.truth import poisoned_ids, read_frame
from clipmend.report.unlearned import Unlearned

COLUMNS = (
    "corpus",
    "attack",
    "objective",
    "seed",
    "stage",
    "method",
    "auroc",
    "average_precision",
    "recall_at_fpr_01",
    "precision_at_budget",
    "precision_of_chosen",
    "budget",
    "n_pairs",
    "n_poisoned",
)

DEFINITIONS = {
    "auroc": "Chance that a poisoned pair scores higher than another; ties count half. A pair that "
    "has one of two keys and says what its image shows is not poisoned.",
    "average_precision": "Precision averaged over the ranks at which poisoned pairs are found.",
    "recall_at_fpr_01": "Share of poisoned pairs found while at most 1 % of the others score as "
    "high.",
    "precision_at_budget": "Share of poisoned pairs among the highest scores, as many as "
    "unlearning chose by this detector (budget). Where it chose none, and of a detector that no "
    "unlearner reads: as many as the victim's unlearner chooses at most.",
    "precision_of_chosen": "Share of poisoned pairs among those that unlearning chose by this "
    "detector; empty where it chose none.",
}


@dataclass(frozen=True)
class Scored:
    """A victim's training pairs as one detector scored them.

    Attributes:
        pairs: the detector's ``scores.parquet`` and ``is_poisoned``, a row per pair.
        budget: how many of the highest scores are compared; None where nothing asks.
        precision_of_chosen: of the pairs that unlearning chose by these scores, if it did.
    """

    victim: Victim
    method: str
    pairs: pd.DataFrame
    budget: int | None = None
    precision_of_chosen: float | None = None


def scored_pairs(inputs: Mapping[str, Input], unlearned: Sequence[Unlearned]) -> list[Scored]:
    """Return the scores of every detector of pairs, in the report's order.

    What unlearning chose by a detector is what the first unlearner chose that reads it and is no
    control.

    Reads ``scores.parquet`` of ``detect`` and, for the truth, ``overlay.parquet`` of ``poison``.
    A detector that judges a whole model writes no scores, and has no row.
    """
    scored = []
    for given in inputs_of(inputs, "detect"):
        path, victim = given.folder / "scores.parquet", victim_of(given.cell)
        if path.is_file():
            pairs = read_frame(path)
            pairs["is_poisoned"] = pairs["id"].isin(poisoned_ids(inputs, victim))
            ours = [one for one in unlearned if one.victim == victim and not one.control]
            scored.append(Scored(victim, given.method, pairs, *_chosen(ours, given.method)))
    return sorted(scored, key=lambda one: (victim_order(one.victim), one.method))


def detectors_table(scored: Iterable[Scored]) -> pd.DataFrame:
    """Return ``detectors.csv``, a row per victim and detector."""
    rows = [
        {
            **vars(one.victim),
            "stage": "detect",
            "method": one.method,
            **judged(
                one.pairs["score"].to_numpy(np.float64),
                one.pairs["is_poisoned"].to_numpy(np.bool_),
                budget=one.budget,
            ),
            "precision_of_chosen": one.precision_of_chosen,
            "budget": one.budget,
            "n_pairs": len(one.pairs),
            "n_poisoned": int(one.pairs["is_poisoned"].sum()),
        }
        for one in scored
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"budget": "Int64"})


def printed_detectors(table: pd.DataFrame) -> Printed | None:
    """Return ``detectors.csv`` as it is printed, in percent; None where nothing was told apart."""
    poisoned = table[table["n_poisoned"] > 0]
    if poisoned.empty:
        return None
    names = ("method", "corpus", "attack", "objective", "seed")
    rows = tuple(
        (
            *(Entry(str(row[name])) for name in names),
            *(Entry(_percent(row[metric])) for metric in DEFINITIONS),
            *(Entry(_whole(row[count])) for count in ("budget", "n_poisoned", "n_pairs")),
        )
        for row in records(poisoned)
    )
    rates = ("AUROC", "average precision", "recall at 1 % FPR")
    precisions = ("precision at budget", "precision of chosen")
    header = (*names, *rates, *precisions, "budget", "poisoned pairs", "pairs")
    return Printed("Poisoned victims, in percent", header, rows)


def judged(
    score: np.ndarray[Any, np.dtype[np.float64]],
    poisoned: np.ndarray[Any, np.dtype[np.bool_]],
    *,
    budget: int | None,
) -> dict[str, float]:
    """Return the detector's metrics, as fractions; none where there is nothing to tell apart."""
    if not poisoned.any() or poisoned.all():
        return {}
    # Thinned-out points could hide the last one that is still under 1 % false alarms.
    false, true, _ = roc_curve(poisoned, score, drop_intermediate=False)
    metrics = {
        "auroc": float(roc_auc_score(poisoned, score)),
        "average_precision": float(average_precision_score(poisoned, score)),
        "recall_at_fpr_01": float(true[false <= 0.01].max()),
    }
    if budget is not None:
        highest = np.argsort(-score, kind="stable")[:budget]
        metrics["precision_at_budget"] = float(poisoned[highest].mean())
    return metrics


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


def _whole(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _chosen(unlearned: Sequence[Unlearned], detector: str) -> tuple[int | None, float | None]:
    """Return how many of the detector's pairs are compared, and the precision of those chosen."""
    reading = [one for one in unlearned if one.detector == detector]
    if reading and len(reading[0].chosen):
        return len(reading[0].chosen), reading[0].precision
    # Nothing was chosen by it: it is compared at the size that an unlearner would ask for.
    asked = next((one.settings.get("pairs") for one in reading or unlearned), None)
    return None if asked is None else int(asked), None
