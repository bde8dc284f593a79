"""InverTune removes nearly all of the attack success rate, for little accuracy."""

from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="invertune_removes_backdoors",
    claim="InverTune removes 97.87 % of the ASR and costs 3.07 points of CA",
    source="arXiv:2506.12411",
    paper="Means over six attacks on OpenAI's CLIP, from the abstract; the table is not available.",
    scope="The target comes from UBT's word here, not from an adversarial patch of a generator. "
    "The abstract does not say whether its percentage is of the ASR or in points; it is checked as "
    "a share of the ASR.",
    columns="cells.csv attack_success_rate, cells.csv clean_accuracy",
    comparison="On backdoored victims, the share of the ASR that invertune removes must be at "
    "least removed, and the CA that it costs at most lost",
    thresholds={"backdoored": 0.5, "removed": 0.9787, "lost": 0.0307},
)


def check(tables: Tables) -> Outcome:
    """Check the share of the ASR that ``invertune`` removes, and the CA that it costs."""
    limits, cells = CLAIM.thresholds, victims.poisoned(tables.cells)
    start = victims.backdoored(tables.cells, limits["backdoored"])
    both = victims.paired(cells[cells["method"] == "invertune"], start, ATTACK, CLEAN)
    if both.empty:
        return untested("`invertune` repaired no backdoored victim.")
    removed = tables.number("share of the ASR removed", 1 - both[ATTACK] / both[f"{ATTACK}_other"])
    lost = tables.number("CA lost", both[f"{CLEAN}_other"] - both[CLEAN])
    because = (
        f"`invertune` removes {removed.text('.1f')} % of the ASR and costs {lost.text('.1f')} "
        f"points of CA ({removed.sample()})."
    )
    holds = removed.low >= limits["removed"] and lost.high <= limits["lost"]
    return tested(because, [removed, lost], holds=holds)
