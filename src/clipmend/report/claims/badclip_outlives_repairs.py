"""BadCLIP's backdoor outlives repairs that remove BadNet's."""

import pandas as pd

from clipmend.report.cells import ATTACK, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="badclip_outlives_repairs",
    claim="Fine-tuning and CleanCLIP leave BadCLIP's backdoor in place where they remove BadNet's",
    source="arXiv:2311.12075",
    paper="1,500 poisons fine-tuned into OpenAI's RN50 on 500K pairs of CC3M; ASR after CleanCLIP "
    "on 100K pairs: BadCLIP 89.60, BadNet 17.13 (from memory).",
    scope="Victims are trained from nothing here, or fine-tuned from a clean model of the same "
    "corpus, not from OpenAI's CLIP. The surrogate is trained on the corpus itself. The variant "
    "badclip@known_start is measured, not checked. By the threshold of a removed backdoor, the "
    "paper's own number passes.",
    columns="cells.csv attack_success_rate",
    comparison="backdoored victims of badclip and of badnet under one objective and seed; after ft "
    "and after cleanclip, the ASR of badclip at least left, and that of badnet below cleaned",
    thresholds={"backdoored": 0.5, "left": 0.5, "cleaned": 0.2},
)


def check(tables: Tables) -> Outcome:
    """Check both repairs: each must leave ``badclip`` in place and remove ``badnet``."""
    left = {}
    for repair in ("ft", "cleanclip"):
        both = _both_attacks(tables.cells, repair)
        if both.empty:
            return untested(
                "No objective and seed has backdoored victims of both `badclip` and `badnet` that "
                "`ft` and `cleanclip` repaired."
            )
        left[repair] = (
            tables.number(f"ASR of badclip after {repair}", both[ATTACK]),
            tables.number(f"ASR of badnet after {repair}", both["other"]),
        )
    texts = [
        f"`{repair}` leaves an ASR of {ours.text('.1f')} % of `badclip` and of "
        f"{other.text('.1f')} % of `badnet` ({ours.sample('pairs of victims')})"
        for repair, (ours, other) in left.items()
    ]
    return tested(
        f"{'; '.join(texts)}.",
        (number for pair in left.values() for number in pair),
        holds=all(
            ours.low >= CLAIM.thresholds["left"] and other.high < CLAIM.thresholds["cleaned"]
            for ours, other in left.values()
        ),
    )


def _both_attacks(cells: pd.DataFrame, repair: str) -> pd.DataFrame:
    """Return a row per pair of backdoored victims: the ASR that a repair leaves of each attack."""
    start = victims.backdoored(cells, CLAIM.thresholds["backdoored"])[list(PAIR)]
    rows = victims.poisoned(cells[cells["method"] == repair]).merge(start, on=list(PAIR))
    same = ["corpus", "objective", "seed"]
    other = rows[rows["attack"] == "badnet"][[*same, ATTACK]].rename(columns={ATTACK: "other"})
    return victims.by_victim(rows[rows["attack"] == "badclip"].merge(other, on=same))
