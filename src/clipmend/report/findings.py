"""``findings.json``: the pairs that each unlearning repair chose, and the effect of unlearning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipmend.engine.cards import canonical
from clipmend.engine.cell import Place
from clipmend.report.cells import records
from clipmend.report.detection import MOMENTS, ScoredPairs, bin_edges, victim_fields
from clipmend.report.estimates import DEFINITION, Estimated

SHOWN = 24
DEFINITIONS = {
    "chosen": "The pairs that were unlearned.",
    "suspects": "Other pairs that the detector marked as suspects; all if it marks none.",
    "others": "All other training pairs.",
    "histograms": "Pairs per bin of their similarity; there is one edge more than bins.",
    "similarity_before": "Cosine of image and caption in the detector's pre-scoring.",
    "similarity_after": "The same cosine after overfitting on the suspects.",
    "curve": "Measured on validation images; loss is that of the unlearning.",
    "precision_of_chosen": "Share of poisoned pairs among the chosen ones; no defender knows it.",
    "estimates": DEFINITION,
    "shown": f"The first {SHOWN} chosen pairs, or the most suspect ones if none was chosen.",
}


@dataclass(frozen=True)
class Curve:
    """The ``curve.csv`` of one model; ``method`` is ``none`` for the victim itself."""

    victim: Place
    method: str
    points: pd.DataFrame


@dataclass(frozen=True)
class Unlearned:
    """What one unlearning repair chose on one victim.

    Attributes:
        control: whether it is a control, which uses what no defender has.
        settings: its settings; ``detector`` names the detector whose scores it reads.
        finding: its ``finding.json``.
        chosen: its ``chosen.parquet`` with the column ``is_poisoned``, a row per chosen pair.
    """

    victim: Place
    method: str
    control: bool
    settings: Mapping[str, Any]
    finding: Mapping[str, Any]
    chosen: pd.DataFrame

    @property
    def detector(self) -> str:
        """The detector whose scores the repair reads."""
        return str(self.settings["detector"])

    @property
    def precision(self) -> float | None:
        """The share of poisoned pairs among the chosen ones; None if none was chosen."""
        return float(self.chosen["is_poisoned"].mean()) if len(self.chosen) else None


@dataclass(frozen=True)
class Finding:
    """What one unlearning repair chose, the scores that it chose by, and the curve of its steps.

    Attributes:
        estimates: the triggers that it estimated, one for each of its groups.
    """

    unlearned: Unlearned
    scored: ScoredPairs
    curve: Curve
    estimates: Sequence[Estimated] = ()

    @property
    def victim(self) -> Place:
        """The victim that was repaired."""
        return self.unlearned.victim

    @property
    def shown(self) -> pd.DataFrame:
        """The pairs of the contact sheet: id, score, is_poisoned, and text if chosen."""
        if len(self.unlearned.chosen):
            return self.unlearned.chosen.head(SHOWN)
        ranked = self.scored.pairs.sort_values("score", ascending=False, kind="stable")
        return ranked[["id", "score", "is_poisoned"]].head(SHOWN)

    @property
    def members(self) -> dict[str, pd.DataFrame]:
        """The scored pairs of each group: others, suspects that were not chosen, chosen ones."""
        pairs = self.scored.pairs
        chosen = pairs["id"].isin(self.unlearned.chosen["id"])
        # A detector that marks no suspects leaves open which pairs it suspects: count all.
        suspect = ~chosen & pairs["suspect"] if "suspect" in pairs else ~chosen
        groups = {"others": ~chosen & ~suspect, "suspects": suspect, "chosen": chosen}
        return {name: pairs[rows] for name, rows in groups.items()}


def findings_text(findings: Sequence[Finding]) -> str:
    """Return ``findings.json``: a list with one line per victim and repair."""
    lines = ",\n".join(canonical(_facts(finding)) for finding in findings)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def _facts(finding: Finding) -> dict[str, Any]:
    unlearned = finding.unlearned
    histograms: dict[str, Any] | None = None
    if finding.scored.overfits:
        edges, members = bin_edges([finding.scored]), finding.members.items()
        histograms = {"edges": [round(edge, 6) for edge in edges]} | {
            moment: {n: np.histogram(pairs[moment], edges)[0].tolist() for n, pairs in members}
            for moment in MOMENTS
        }
    return {
        **victim_fields(finding.victim),
        "method": unlearned.method,
        "control": unlearned.control,
        "detector": unlearned.detector,
        **unlearned.finding,
        "precision_of_chosen": unlearned.precision,
        "estimates": [estimate.facts for estimate in finding.estimates],
        "shown": _rounded(finding.shown),
        "histograms": histograms,
        "curve": _rounded(finding.curve.points),
        "definitions": DEFINITIONS | unlearned.finding["definitions"],
    }


def _rounded(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows without missing values, to six digits: float32 scores have no more."""
    rows = [{k: v for k, v in row.items() if v is not None} for row in records(table)]
    return [{k: round(v, 6) if isinstance(v, float) else v for k, v in r.items()} for r in rows]
