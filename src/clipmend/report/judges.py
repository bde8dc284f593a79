"""Who judges which claim, by its name in ``claims.yaml``; a judge is pure, over tables alone.

To add a claim: give it an entry in ``claims.yaml`` and its judge a line here.
"""

from collections.abc import Callable

from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    judgement,
    paired,
    poisoned_cells,
    rivals,
    untested,
)
from clipmend.report.purifying import (
    beats_filters,
    beats_repairs,
    identifies_poison,
    resembles_trigger,
)
from clipmend.report.removal import (
    few_poisons_defeat,
    harder_from_higher,
    survives_cleaning,
    survives_every_epoch,
)
from clipmend.report.resisting import outlives_repairs
from clipmend.report.table import ATTACK, CLEAN

_UBT = "ubt"


def lowest_asr(evidence: Evidence, limits: Limits) -> Finding:
    """Judge UBT's headline: so many points less ASR than the best other, at a higher CA.

    The best other is the repair with the lowest mean ASR. With two victims or more the whole
    interval of both differences must lie on the claim's side.
    """
    poisoned = poisoned_cells(evidence.cells)
    ours = poisoned[poisoned["method"] == _UBT]
    tried = {
        other: both
        for other in rivals(evidence.cells, _UBT)
        if len(both := paired(ours, poisoned[poisoned["method"] == other]))
    }
    if not tried:
        return untested("No poisoned victim was mended by `ubt` and by another repair.")
    numbers = {}
    for other, both in tried.items():
        attack = both[f"{ATTACK}_other"] - both[ATTACK]
        clean = both[CLEAN] - both[f"{CLEAN}_other"]
        numbers[other] = (
            evidence.number(f"ASR of {other} less that of ubt", attack),
            evidence.number(f"CA of ubt less that of {other}", clean),
        )
    best = min(tried, key=lambda other: float(tried[other][f"{ATTACK}_other"].mean()))
    asr, ca = numbers[best]
    left = float(tried[best][f"{ATTACK}_other"].mean())
    return Finding(
        judgement(holds=asr.low >= limits["margin"] and ca.low > 0),
        f"The best other is `{best}`, whose mean ASR is {100 * left:.1f} %. `ubt` is "
        f"{asr.points()} points below it in ASR and {ca.points()} above it in CA "
        f"(n = {asr.n} victims).",
        tuple(number for pair in numbers.values() for number in pair),
    )


Judge = Callable[[Evidence, Limits], Finding]

JUDGES: dict[str, Judge] = {
    "ubt_lowest_asr": lowest_asr,
    "ssl_survives_cleanclip": survives_cleaning,
    "ssl_survives_every_epoch": survives_every_epoch,
    "accuracy_hardens_removal": harder_from_higher,
    "few_poisons_defeat_cleanclip": few_poisons_defeat,
    "adversarial_resembles_trigger": resembles_trigger,
    "pud_identifies_poison": identifies_poison,
    "pud_beats_repairs": beats_repairs,
    "pud_beats_filters": beats_filters,
    "badclip_outlives_repairs": outlives_repairs,
}
