"""``findings.json``: what each unlearner took for poison, and what it made of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipmend.engine.cards import canonical
from clipmend.report.cells import records
from clipmend.report.curves import Curve
from clipmend.report.detectors import Scored
from clipmend.report.order import Victim
from clipmend.report.similarity import MOMENTS, bin_edges
from clipmend.report.table import Entry, Printed
from clipmend.report.unlearned import Unlearned

SHOWN = 24
DEFINITIONS = {
    "chosen": "Pairs that were unlearned.",
    "suspects": "Other pairs that the detector took for suspects; all if it does not say.",
    "others": "All other training pairs.",
    "histograms": "Pairs per bin of their similarity; edges has one number more than there are "
    "bins.",
    "similarity_before": "Cosine of image and caption at the detector's first look.",
    "similarity_after": "The same after overfitting on the suspects.",
    "curve": "On validation images; loss is that of the unlearning.",
    "precision_of_chosen": "Share of true poison among the chosen pairs; no defender knows it.",
    "shown": f"The first {SHOWN} chosen pairs; the most suspect ones where none was chosen.",
}


@dataclass(frozen=True)
class Belief:
    """What one unlearner believes about one victim.

    Attributes:
        scored: the detector that it reads.
        curve: of the unlearning.
    """

    unlearned: Unlearned
    scored: Scored
    curve: Curve

    @property
    def victim(self) -> Victim:
        """Return whose pairs they are."""
        return self.unlearned.victim

    @property
    def shown(self) -> pd.DataFrame:
        """Return the pairs of the contact sheet: id, score, is_poisoned, and text if chosen."""
        if len(self.unlearned.chosen):
            return self.unlearned.chosen.head(SHOWN)
        ranked = self.scored.pairs.sort_values("score", ascending=False, kind="stable")
        return ranked[["id", "score", "is_poisoned"]].head(SHOWN)

    @property
    def overfits(self) -> bool:
        """Return whether the detector tells similarities before and after overfitting."""
        return MOMENTS.keys() <= set(self.scored.pairs.columns)

    @property
    def members(self) -> dict[str, pd.DataFrame]:
        """Return the pairs of each group as the detector scored them."""
        pairs = self.scored.pairs
        chosen = pairs["id"].isin(self.unlearned.chosen["id"])
        suspect = ~chosen & pairs["suspect"] if "suspect" in pairs else ~chosen
        return {
            "others": pairs[~chosen & ~suspect],
            "suspects": pairs[suspect],
            "chosen": pairs[chosen],
        }


def findings(
    unlearned: Iterable[Unlearned], scored: Iterable[Scored], curves: Iterable[Curve]
) -> list[Belief]:
    """Return what each unlearner believes, in their order."""
    detectors = {(one.victim, one.method): one for one in scored}
    drawn = {(one.victim, one.method): one for one in curves}
    return [
        Belief(one, detectors[one.victim, one.detector], drawn[one.victim, one.method])
        for one in unlearned
    ]


def findings_text(findings_shown: Sequence[Belief]) -> str:
    """Return ``findings.json``: a list, a line per victim and unlearner."""
    lines = ",\n".join(canonical(_facts(one)) for one in findings_shown)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def printed_findings(findings_shown: Sequence[Belief]) -> Printed | None:
    """Return the table of what was found; controls are left out, which do not look."""
    rows = tuple(_row(one.unlearned) for one in findings_shown if not one.unlearned.control)
    header = (
        "victim",
        "method",
        "found",
        "word",
        "share / base",
        "suspects",
        "chosen",
        "true poison among the chosen",
        "epochs",
    )
    return Printed("Shares in percent", header, rows) if rows else None


def _row(one: Unlearned) -> tuple[Entry, ...]:
    said: Mapping[str, Any] = one.finding
    share = f"{100 * said['word_share']:.1f} / {100 * said['word_base']:.1f}"
    texts = (
        one.victim.path,
        one.method,
        "yes" if said["found"] else "no",
        said["word"],
        share,
        f"{said['n_suspects']:,}",
        f"{said['n_chosen']:,}",
        "" if one.precision is None else f"{100 * one.precision:.1f}",
        f"{said['epochs']:g}",
    )
    return tuple(map(Entry, texts))


def _facts(one: Belief) -> dict[str, Any]:
    unlearned = one.unlearned
    return {
        **vars(one.victim),
        "method": unlearned.method,
        "control": unlearned.control,
        "detector": unlearned.detector,
        **unlearned.finding,
        "precision_of_chosen": unlearned.precision,
        "shown": _rounded(one.shown),
        "histograms": _histograms(one) if one.overfits else None,
        "curve": _rounded(one.curve.points),
        "definitions": DEFINITIONS | unlearned.finding["definitions"],
    }


def _histograms(one: Belief) -> dict[str, Any]:
    edges = bin_edges([one.scored])
    return {
        "edges": [round(edge, 6) for edge in edges],
        **{
            moment: {
                name: np.histogram(pairs[moment], edges)[0].tolist()
                for name, pairs in one.members.items()
            }
            for moment in MOMENTS
        },
    }


def _rounded(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows, without what is missing; float32 has no more digits."""
    return [
        {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in row.items()
            if value is not None
        }
        for row in records(table)
    ]
