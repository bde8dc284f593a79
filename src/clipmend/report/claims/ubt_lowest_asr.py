"""UBT (Unlearning Backdoor Threats) leaves the lowest ASR, at a higher CA."""

from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="ubt_lowest_asr",
    claim="UBT's ASR is 19 points below that of the best other repair, and its CA higher",
    source="arXiv:2403.16257",
    paper="CC3M and CLIP, several attacks: ASR 19 points below the best other, CA 2.57 points "
    "above (abstract level, tables not available).",
    scope="UBT is reimplemented from abstracts and reviews. Where another repair leaves less than "
    "19 % ASR, no method can support the claim. Defenses at training time are not compared.",
    columns="cells.csv attack_success_rate, cells.csv clean_accuracy",
    comparison="On the poisoned victims that ubt repaired, ubt is compared with the best other "
    "repair: the one with the lowest mean ASR. Only repairs measured on all of these victims "
    "count; the report names the others. Controls, variants of ubt and repairs with poisoned "
    "trusted pairs do not count. The best repair's ASR minus that of ubt must be at least margin, "
    "and the CA of ubt minus its CA above 0",
    thresholds={"margin": 0.19},
)


def check(tables: Tables) -> Outcome:
    """Check both differences from the best other repair."""
    poisoned = victims.poisoned(tables.cells)
    others = victims.other_repairs(tables.cells, "ubt")
    compared = victims.compare(poisoned[poisoned["method"] == "ubt"], others, CLEAN, ATTACK)
    note = victims.left_out_note(compared)
    if not compared.rivals:
        return untested(
            "`ubt` repaired no poisoned victim, or no other repair was measured on all victims of "
            f"`ubt`.{note}"
        )
    # All repairs go into claims.json, so that a reader can check which is the best.
    numbers = {
        other: (
            tables.number(
                f"ASR of {other} less that of ubt", both[f"{ATTACK}_other"] - both[ATTACK]
            ),
            tables.number(f"CA of ubt less that of {other}", both[CLEAN] - both[f"{CLEAN}_other"]),
        )
        for other, both in compared.rivals.items()
    }
    best = compared.best(ATTACK, -1)
    asr, ca = numbers[best]
    return tested(
        f"The best other repair is `{best}`, whose mean ASR is "
        f"{100 * compared.mean(best, ATTACK):.1f} %. The ASR of `ubt` is {asr.text()} points below "
        f"it, and its CA is {ca.text()} points above ({asr.sample()}).{note}",
        (number for pair in numbers.values() for number in pair),
        holds=asr.low >= CLAIM.thresholds["margin"] and ca.low > 0,
    )
