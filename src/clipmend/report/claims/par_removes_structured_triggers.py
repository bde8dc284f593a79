"""PAR (Perturb and Recover) removes structured triggers better than CleanCLIP does."""

from clipmend.report.cells import ATTACK, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

STRUCTURED = ("badnet@stripes", "blended@stripes", "blended@triangles", "blended@watermark")

CLAIM = Claim(
    id="par_removes_structured_triggers",
    claim="CleanCLIP leaves backdoors with structured triggers that PAR removes",
    source="arXiv:2412.00727",
    paper="OpenAI's CLIP, poisoned by fine-tuning on 500K pairs of CC3M; ASR after CleanCLIP and "
    "after PAR, as a reading note quotes it. RN50: 62.3 and 42.4 (badnet@stripes), 61.8 and 0.1 "
    "(blended@stripes), 48.7 and 10.3 (blended@triangles), 42.4 and 18.1 (blended@watermark). "
    "ViT-B/32: 86.8 and 0.1, 15.2 and 0.1, 91.4 and 15.9, 62.9 and 37.3.",
    scope="Victims are trained from nothing here, or fine-tuned from a clean model of the same "
    "corpus. par has the paper's views; its variant par@autoaugment is not checked.",
    columns="cells.csv attack_success_rate",
    comparison="On the same backdoored victims of structured triggers, the ASR after cleanclip "
    "less that after par must be at least margin, the smallest difference of the paper",
    thresholds={"backdoored": 0.5, "margin": 0.151},
)


def check(tables: Tables) -> Outcome:
    """Check by how much the ASR after ``par`` is below that after ``cleanclip``."""
    limits = CLAIM.thresholds
    start = victims.backdoored(tables.cells, limits["backdoored"])
    start = start[start["attack"].isin(STRUCTURED)][list(PAIR)]
    repaired = victims.poisoned(tables.cells).merge(start, on=list(PAIR))
    ours, theirs = (repaired[repaired["method"] == name] for name in ("par", "cleanclip"))
    both = victims.paired(ours, theirs, ATTACK)
    if both.empty:
        return untested(
            "No backdoored victim of a structured trigger was repaired by `par` and `cleanclip`."
        )
    less = tables.number(
        "ASR of cleanclip less that of par", both[f"{ATTACK}_other"] - both[ATTACK]
    )
    because = f"The ASR after `par` is {less.text('.1f')} points below that after `cleanclip`"
    return tested(f"{because} ({less.sample()}).", [less], holds=less.low >= limits["margin"])
