"""The judge of BadCLIP's claim: that its backdoor outlives repairs that remove others."""

from collections.abc import Mapping

import pandas as pd

from clipmend.report.cells import PAIR
from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    Number,
    by_victim,
    judgment,
    planted,
    poisoned_cells,
    untested,
)
from clipmend.report.table import ATTACK

_OURS, _OTHER = "badclip", "badnet"
_REPAIRS = ("ft", "cleanclip")


def outlives_repairs(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether ``ft`` and ``cleanclip`` remove ``badnet`` and leave ``badclip`` in place.

    On victims of both attacks under one objective and seed, in both of which the backdoor works.
    Both repairs must do both: a backdoor outlives nothing where the other is not removed either.
    """
    left = {
        repair: (
            evidence.number(f"ASR of {_OURS} after {repair}", both[ATTACK]),
            evidence.number(f"ASR of {_OTHER} after {repair}", both["other"]),
        )
        for repair in _REPAIRS
        if len(both := _both(evidence.cells, repair, limits["planted"]))
    }
    if len(left) < len(_REPAIRS):
        return untested(
            f"`{_OURS}` and `{_OTHER}` were not both planted and repaired by "
            f"{' and '.join(f'`{name}`' for name in _REPAIRS)}."
        )
    holds = all(
        ours.low >= limits["left"] and other.high < limits["cleaned"]
        for ours, other in left.values()
    )
    numbers = tuple(number for pair in left.values() for number in pair)
    return Finding(judgment(holds=holds), _because(left), numbers)


def _both(cells: pd.DataFrame, repair: str, least: float) -> pd.DataFrame:
    """Return a row per pair of victims: the ASR that the repair leaves of each attack."""
    works = planted(cells, least)[list(PAIR)]
    left = poisoned_cells(cells[cells["method"] == repair]).merge(works, on=list(PAIR))
    on = ["corpus", "objective", "seed"]
    ours = left[left["attack"] == _OURS]
    other = left[left["attack"] == _OTHER][[*on, ATTACK]].rename(columns={ATTACK: "other"})
    return by_victim(ours.merge(other, on=on))


def _because(left: Mapping[str, tuple[Number, Number]]) -> str:
    parts = [
        f"`{repair}` leaves an ASR of {ours.percent()} % of `{_OURS}` and of {other.percent()} % "
        f"of `{_OTHER}` ({ours.counted('pairs of victims')})"
        for repair, (ours, other) in left.items()
    ]
    return f"{'; '.join(parts)}."
