"""How well detectors of inputs tell triggered images from clean ones: the rows of ``inputs.csv``.

Abbreviations: AUROC is the area below the curve of the receiver operating characteristic, TPR and
FPR are the true and the false positive rate. F1 is the harmonic mean of precision and TPR.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.metrics import f1_score, roc_auc_score

from clipmend.engine.cell import Place
from clipmend.report.cells import VICTIM
from clipmend.report.detection import victim_fields

RATES = ("auroc", "tpr", "fpr", "f1")
COUNTS = ("n_trusted", "n_clean", "n_triggered")
COLUMNS = (*VICTIM, "trigger", "stage", "method", *RATES, "stated_fpr", *COUNTS)


@dataclass(frozen=True)
class ScoredInputs:
    """The images of one victim, as one detector of inputs scored them.

    Attributes:
        images: ``input_scores.parquet``, a row per image.
        stated_fpr: the false positive rate for which the detector set its threshold.
    """

    victim: Place
    method: str
    images: pd.DataFrame
    stated_fpr: float


def inputs_table(scored: Iterable[ScoredInputs]) -> pd.DataFrame:
    """Return ``inputs.csv``, a row per victim, trigger and detector; rates are fractions.

    A victim without a trigger has one row, with a false positive rate alone.
    """
    rows = [_row(one, trigger) for one in scored for trigger in _triggers(one)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _triggers(one: ScoredInputs) -> list[str]:
    return [name for name in one.images["trigger"].unique() if name] or [""]


def _row(one: ScoredInputs, trigger: str) -> dict[str, Any]:
    used = one.images[one.images["split"] == "val"]
    clean, triggered = used[used["trigger"] == ""], used[used["trigger"] == trigger]
    row = {**victim_fields(one.victim), "trigger": trigger, "stage": "detect", "method": one.method}
    row |= {"fpr": float(clean["flagged"].mean()), "stated_fpr": one.stated_fpr}
    row |= {"n_trusted": len(one.images) - len(used), "n_clean": len(clean), "n_triggered": 0}
    if not trigger:
        return row
    both = pd.concat([clean, triggered])
    truth = both["trigger"] == trigger
    return row | {
        "auroc": float(roc_auc_score(truth, both["score"])),
        "tpr": float(triggered["flagged"].mean()),
        "f1": float(f1_score(truth, both["flagged"])),
        "n_triggered": len(triggered),
    }
