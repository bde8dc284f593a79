"""Who judges which claim, by its name in ``claims.yaml``; a judge is pure, over tables alone.

To add a claim: give it an entry in ``claims.yaml`` and its judge a line here.
"""

from collections.abc import Callable

from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    beside,
    judgment,
    poisoned_cells,
    rivals,
    told_left_out,
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

    The best other is the repair with the lowest mean ASR, of those that mended every victim that
    ``ubt`` did; the others are named. Both differences must lie on the claim's side with the whole
    of their intervals.
    """
    poisoned = poisoned_cells(evidence.cells)
    ours = poisoned[poisoned["method"] == _UBT]
    compared = beside(ours, rivals(evidence.cells, _UBT), CLEAN, ATTACK)
    if not compared.on_all:
        return untested(
            "`ubt` mended no poisoned victim, or no other repair mended all that it did."
            f"{told_left_out(compared)}"
        )
    numbers = {}
    for other, both in compared.on_all.items():
        attack = both[f"{ATTACK}_other"] - both[ATTACK]
        clean = both[CLEAN] - both[f"{CLEAN}_other"]
        numbers[other] = (
            evidence.number(f"ASR of {other} less that of ubt", attack),
            evidence.number(f"CA of ubt less that of {other}", clean),
        )
    best = compared.best(ATTACK, -1)
    asr, ca = numbers[best]
    left = compared.mean(best, ATTACK)
    return Finding(
        judgment(holds=asr.low >= limits["margin"] and ca.low > 0),
        f"The best other is `{best}`, whose mean ASR is {100 * left:.1f} %. `ubt` is "
        f"{asr.points()} points below it in ASR and {ca.points()} above it in CA "
        f"({asr.counted()}).{told_left_out(compared)}",
        tuple(number for pair in numbers.values() for number in pair),
    )


ModelDetector = Callable[[Evidence, Limits], Finding]

JUDGES: dict[str, ModelDetector] = {
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
