"""BadCLIP's backdoor outlives repairs that remove BadNet's."""

from clipmend.report.cells import ATTACK, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="badclip_outlives_repairs",
    claim="Fine-tuning and CleanCLIP leave BadCLIP's backdoor in place where they remove BadNet's",
    source="arXiv:2311.12075",
    paper="1,500 poisons fine-tuned into OpenAI's CLIP on 500K pairs of CC3M; ASR of BadCLIP and "
    "BadNet after CleanCLIP. RN50: 40.1 and 14.5 (arXiv:2412.00727, as a reading note quotes it). "
    "ViT-B/32: 89.70 and 23.79 (arXiv:2412.20392). From memory, not verified: 89.60 and 17.13 of "
    "the attack's own paper. So the answer depends on the tuning of CleanCLIP.",
    scope="Victims are trained from nothing here, or fine-tuned from a clean model of the same "
    "corpus, not from OpenAI's CLIP. The surrogate is trained on the corpus itself. The variant "
    "badclip@known_start is measured, not checked. The threshold cleaned is set so that the "
    "number from memory passes; neither published pair passes both thresholds.",
    columns="cells.csv attack_success_rate",
    comparison="Backdoored victims of badclip and of badnet are paired by objective and seed. "
    "After ft and after cleanclip, the ASR of badclip must be at least left, and that of badnet "
    "below cleaned",
    thresholds={"backdoored": 0.5, "left": 0.5, "cleaned": 0.2},
)


def check(tables: Tables) -> Outcome:
    """Check both repairs: each must leave ``badclip`` in place and remove ``badnet``."""
    cells, limits = tables.cells, CLAIM.thresholds
    start = victims.backdoored(cells, limits["backdoored"])[list(PAIR)]
    # A backdoor outlives nothing if the other one is not removed: both repairs must do both.
    numbers, texts, holds = [], [], True
    for repair in ("ft", "cleanclip"):
        repaired = victims.poisoned(cells[cells["method"] == repair]).merge(start, on=list(PAIR))
        badclip, badnet = (repaired[repaired["attack"] == name] for name in ("badclip", "badnet"))
        same = ["corpus", "objective", "seed"]
        both = badclip.merge(badnet[[*same, ATTACK]], on=same, suffixes=("", "_badnet"))
        if both.empty:
            return untested(
                "No objective and seed has backdoored victims of both `badclip` and `badnet` that "
                "`ft` and `cleanclip` repaired."
            )
        both = victims.by_victim(both)
        ours = tables.number(f"ASR of badclip after {repair}", both[ATTACK])
        other = tables.number(f"ASR of badnet after {repair}", both[f"{ATTACK}_badnet"])
        numbers += [ours, other]
        holds = holds and ours.low >= limits["left"] and other.high < limits["cleaned"]
        texts.append(
            f"`{repair}` leaves an ASR of {ours.text('.1f')} % of `badclip` and of "
            f"{other.text('.1f')} % of `badnet` ({ours.sample('pairs of victims')})"
        )
    return tested(f"{'; '.join(texts)}.", numbers, holds=holds)
