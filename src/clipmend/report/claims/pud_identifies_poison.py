"""PUD (Progressive Unified Defense) scores poisoned pairs higher than chance does."""

from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="pud_identifies_poison",
    claim="PUD identifies the poisoned images among the training data",
    source="arXiv:2405.17929",
    paper="Classifiers on CIFAR-10, GTSRB, ten classes of ImageNet; numbers not available.",
    scope="PUD is carried over to CLIP here. A detector better than chance may still be too weak "
    "to use; the numbers tell how good it is.",
    columns="detectors.csv auroc, detectors.csv precision_at_budget, detectors.csv n_poisoned, "
    "detectors.csv n_pairs",
    comparison="The scores of the detector pud on poisoned victims are compared with chance. AUROC "
    "must be above chance. Where a budget was set, precision at budget minus n_poisoned / n_pairs "
    "must be above 0",
    thresholds={"chance": 0.5},
)


def check(tables: Tables) -> Outcome:
    """Check AUROC and, where a budget was set, precision at the budget."""
    chance, scored = CLAIM.thresholds["chance"], tables.detectors
    ours = victims.by_victim(scored[(scored["method"] == "pud") & scored["auroc"].notna()])
    if ours.empty:
        return untested("`pud` scored no poisoned victim.")
    auroc = tables.number("AUROC", ours["auroc"])
    numbers, holds = [auroc], auroc.low > chance
    because = f"AUROC is {auroc.text('.1f')} %, chance {100 * chance:g}"
    ours = ours[ours["precision_at_budget"].notna()]
    if len(ours):
        # By chance, the precision is the share of poison.
        above = ours["precision_at_budget"] - ours["n_poisoned"] / ours["n_pairs"]
        precision = tables.number("precision at budget less share of poison", above)
        numbers.append(precision)
        holds = holds and precision.low > 0
        because += f"; precision at budget is {precision.text()} points above the share of poison"
    return tested(f"{because} ({auroc.sample()}).", numbers, holds=holds)
