"""How well detectors rank training pairs or classify models: the rows of two CSV files.

``detectors.csv`` compares the scores of training pairs with the truth, ``model_scores.csv`` holds
what detectors of whole models measured. Abbreviations: ROC is the receiver operating
characteristic, AUROC the area below it, FPR the false positive rate.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from clipmend.engine.cell import Place
from clipmend.report.cells import VICTIM

RANKING = (
    *("auroc", "average_precision", "recall_at_fpr_01"),
    *("precision_at_budget", "precision_of_chosen"),
)
COLUMNS = (*VICTIM, "stage", "method", *RANKING, "budget", "n_pairs", "n_poisoned")
_SCORED = ("is_backdoored", "found", "statistic", "threshold", "n_images", "n_poisoned")
MODEL_COLUMNS = (*VICTIM, "stage", "method", *_SCORED)
MOMENTS = {"similarity_before": "pre-scoring", "similarity_after": "after overfitting"}
"""Columns of ``scores.parquet`` that only detectors which overfit write, and their titles."""
_BINS = 40


@dataclass(frozen=True)
class ScoredPairs:
    """The training pairs of one victim, as one detector scored them.

    Attributes:
        pairs: ``scores.parquet`` with the column ``is_poisoned``, a row per pair.
        budget: the number of highest scores that are compared with the truth, if any.
        precision_of_chosen: the share of poison among the pairs that a repair chose by the scores.
    """

    victim: Place
    method: str
    pairs: pd.DataFrame
    budget: int | None = None
    precision_of_chosen: float | None = None

    @property
    def overfits(self) -> bool:
        """Whether the detector recorded similarities before and after overfitting."""
        return MOMENTS.keys() <= set(self.pairs.columns)


@dataclass(frozen=True)
class ModelScore:
    """One victim, as one detector of whole models scored it.

    Attributes:
        stated: the ``model_score.json`` of the detector.
        n_poisoned: the number of poisoned training pairs of the victim.
    """

    victim: Place
    method: str
    stated: Mapping[str, Any]
    n_poisoned: int


def victim_fields(victim: Place) -> dict[str, Any]:
    """Return corpus, attack, objective and seed, as the columns of tables."""
    return {name: getattr(victim, name) for name in VICTIM}


def detectors_table(scored: Iterable[ScoredPairs]) -> pd.DataFrame:
    """Return ``detectors.csv``, a row per victim and detector; rates are fractions."""
    rows = []
    for one in scored:
        poisoned = one.pairs["is_poisoned"].to_numpy(np.bool_)
        score = one.pairs["score"].to_numpy(np.float64)
        row = {**victim_fields(one.victim), "stage": "detect", "method": one.method}
        row |= ranking(score, poisoned, budget=one.budget)
        row |= {"precision_of_chosen": one.precision_of_chosen, "budget": one.budget}
        rows.append(row | {"n_pairs": len(poisoned), "n_poisoned": int(poisoned.sum())})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"budget": "Int64"})


def ranking(
    score: np.ndarray[Any, np.dtype[np.float64]],
    poisoned: np.ndarray[Any, np.dtype[np.bool_]],
    *,
    budget: int | None,
) -> dict[str, float]:
    """Return the metrics of a ranking, as fractions; none if all pairs are of one kind."""
    if not poisoned.any() or poisoned.all():
        return {}
    # A thinned-out curve could drop the last point whose false positive rate is at most 1 %.
    false, true, _ = roc_curve(poisoned, score, drop_intermediate=False)
    metrics = {
        "auroc": float(roc_auc_score(poisoned, score)),
        "average_precision": float(average_precision_score(poisoned, score)),
        "recall_at_fpr_01": float(true[false <= 0.01].max()),
    }
    if budget is not None:
        # Stable: equal scores at the edge of the budget are cut the same way on every machine.
        highest = np.argsort(-score, kind="stable")[:budget]
        metrics["precision_at_budget"] = float(poisoned[highest].mean())
    return metrics


def model_scores_table(scores: Iterable[ModelScore]) -> pd.DataFrame:
    """Return ``model_scores.csv``, a row per victim and detector of whole models."""
    rows = []
    for one in scores:
        row = {**victim_fields(one.victim), "stage": "detect", "method": one.method}
        row |= {name: one.stated[name] for name in MODEL_COLUMNS if name in one.stated}
        rows.append(row | {"n_poisoned": one.n_poisoned} | one.stated["numbers"])
    # Each detector of whole models measures numbers of its own, so the columns vary by run.
    further = sorted({name for row in rows for name in row} - set(MODEL_COLUMNS))
    return pd.DataFrame(rows, columns=[*MODEL_COLUMNS[:-2], *further, *MODEL_COLUMNS[-2:]])


def bin_edges(scored: Sequence[ScoredPairs]) -> list[float]:
    """Return the edges of the bins that cover every similarity of these detectors."""
    values = [one.pairs[moment] for one in scored for moment in MOMENTS]
    low = min(float(value.min()) for value in values)
    high = max(float(value.max()) for value in values)
    return [float(edge) for edge in np.linspace(low, max(high, low + 1e-3), _BINS + 1)]
