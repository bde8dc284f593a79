"""The judge of BadCLIP's claim: that its backdoor outlives repairs that remove others."""

import pandas as pd

from clipmend.report.cells import PAIR
from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    Number,
    by_victim,
    judgement,
    planted,
    poisoned_cells,
    untested,
)
from clipmend.report.table import ATTACK

_OURS, _OTHER = "badclip", "badnet"
_REPAIRS = ("ft", "cleanclip")


def outlives_repairs(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether ``ft`` and ``cleanclip`` leave more of ``badclip`` than of ``badnet``.

    On victims of both attacks under one objective and seed, in both of which the backdoor works.
    """
    numbers = tuple(
        evidence.number(f"ASR after {repair}, {_OURS} less {_OTHER}", both[ATTACK] - both["other"])
        for repair in _REPAIRS
        if len(both := _both(evidence.cells, repair, limits["planted"]))
    )
    if len(numbers) < len(_REPAIRS):
        return untested(
            f"`{_OURS}` and `{_OTHER}` were not both planted and repaired by "
            f"{' and '.join(f'`{name}`' for name in _REPAIRS)}."
        )
    holds = all(number.low >= limits["margin"] for number in numbers)
    return Finding(judgement(holds=holds), _because(numbers), numbers)


def _both(cells: pd.DataFrame, repair: str, least: float) -> pd.DataFrame:
    """Return a row per pair of victims: the ASR that the repair leaves of each attack."""
    works = planted(cells, least)[list(PAIR)]
    left = poisoned_cells(cells[cells["method"] == repair]).merge(works, on=list(PAIR))
    on = ["corpus", "objective", "seed"]
    ours = left[left["attack"] == _OURS]
    other = left[left["attack"] == _OTHER][[*on, ATTACK]].rename(columns={ATTACK: "other"})
    return by_victim(ours.merge(other, on=on))


def _because(numbers: tuple[Number, ...]) -> str:
    parts = [
        f"`{repair}` leaves {number.points()} points more ASR"
        for repair, number in zip(_REPAIRS, numbers, strict=True)
    ]
    counted = numbers[0].counted("pairs of victims")
    return f"Of `{_OURS}` {' and '.join(parts)} than of `{_OTHER}` ({counted})."
