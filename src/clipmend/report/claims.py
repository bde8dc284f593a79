"""Claims of the papers, each with a verdict computed from this run's own cells."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from clipmend.report.cells import PAIR, groups
from clipmend.report.intervals import student_interval
from clipmend.report.order import UNDEFENDED, is_poisoned, method_order
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed

_UBT = "ubt"
_MARGIN = 0.19

Judgement = Literal["supported", "not supported", "not tested here"]


@dataclass(frozen=True)
class Margin:
    """How far UBT is ahead of another repair on the same poisoned victims.

    Attributes:
        attack_success_rate: mean of the other's less UBT's, as a fraction.
        clean_accuracy: mean of UBT's less the other's, as a fraction.
        n: victims under their trigger.
    """

    other: str
    attack_success_rate: float
    attack_success_rate_interval: tuple[float, float] | None
    clean_accuracy: float
    clean_accuracy_interval: tuple[float, float] | None
    other_attack_success_rate: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """What this run says to a claim, on one corpus."""

    claim: str
    source: str
    corpus: str
    verdict: Judgement
    because: str
    margins: tuple[Margin, ...]


def judged_claims(cells: pd.DataFrame, confidence: float) -> list[Verdict]:
    """Return the verdict on each claim, by corpus."""
    return [
        _lowest_asr(str(corpus), group, confidence) for (corpus,), group in groups(cells, "corpus")
    ]


def claims_text(found: Sequence[Verdict]) -> str:
    """Return ``claims.json``."""
    return json.dumps([asdict(verdict) for verdict in found], indent=1) + "\n"


def printed_claims(found: Sequence[Verdict]) -> Printed | None:
    """Return the verdicts as they are printed; None where there is none."""
    if not found:
        return None
    header = ("claim", "source", "corpus", "verdict", "because")
    rows = tuple(tuple(Entry(getattr(one, name)) for name in header) for one in found)
    return Printed("Verdicts", header, rows)


def _lowest_asr(corpus: str, cells: pd.DataFrame, confidence: float) -> Verdict:
    """Judge UBT's headline: 19 points less ASR than the best other, at a higher CA.

    The best other is the repair with the lowest mean ASR. With two victims or more the whole
    interval of both differences must lie on the claim's side.
    """
    margins = _margins(cells, confidence)
    verdict: Judgement = "not tested here"
    because = "No poisoned victim was mended by `ubt` and by another repair."
    if margins:
        best = min(margins, key=lambda margin: margin.other_attack_success_rate)
        low = (best.attack_success_rate_interval or (best.attack_success_rate,))[0]
        higher = (best.clean_accuracy_interval or (best.clean_accuracy,))[0] > 0
        verdict = "supported" if low >= _MARGIN and higher else "not supported"
        because = _because(best)
    return Verdict(
        claim="UBT's ASR is 19 points below that of the best other repair, and its CA higher",
        source="arXiv:2403.16257",
        corpus=corpus,
        verdict=verdict,
        because=because,
        margins=tuple(margins),
    )


def _margins(cells: pd.DataFrame, confidence: float) -> list[Margin]:
    """Return UBT's margin over each repair that is neither a control nor a variant of its own."""
    poisoned = cells[cells["attack"].map(is_poisoned) & ~cells["control"].astype(bool)]
    ours = poisoned.loc[poisoned["method"] == _UBT, [*PAIR, CLEAN, ATTACK]]
    others = {
        str(name)
        for name in poisoned["method"]
        if name != UNDEFENDED and str(name).partition("@")[0] != _UBT
    }
    margins = []
    for other in sorted(others, key=method_order):
        theirs = poisoned.loc[poisoned["method"] == other, [*PAIR, CLEAN, ATTACK]]
        paired = ours.merge(theirs, on=list(PAIR), suffixes=("", "_other"))
        if not paired.empty:
            margins.append(_margin(other, paired, confidence))
    return margins


def _margin(other: str, paired: pd.DataFrame, confidence: float) -> Margin:
    attack = [float(value) for value in paired[f"{ATTACK}_other"] - paired[ATTACK]]
    clean = [float(value) for value in paired[CLEAN] - paired[f"{CLEAN}_other"]]
    return Margin(
        other=other,
        attack_success_rate=sum(attack) / len(attack),
        attack_success_rate_interval=student_interval(attack, confidence),
        clean_accuracy=sum(clean) / len(clean),
        clean_accuracy_interval=student_interval(clean, confidence),
        other_attack_success_rate=float(paired[f"{ATTACK}_other"].mean()),
        n=len(paired),
    )


def _because(best: Margin) -> str:
    return (
        f"The best other is `{best.other}`, whose mean ASR is "
        f"{100 * best.other_attack_success_rate:.1f} %. `ubt` is "
        f"{_points(best.attack_success_rate, best.attack_success_rate_interval)} points below it "
        f"in ASR and {_points(best.clean_accuracy, best.clean_accuracy_interval)} above it in CA "
        f"(n = {best.n} victims)."
    )


def _points(mean: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{100 * mean:+.1f}"
    return f"{100 * mean:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"
