"""After CleanCLIP, triggered images are classified correctly less often than clean ones."""

from clipmend.report.cells import CLEAN, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

TRIGGERED = "triggered_accuracy"

CLAIM = Claim(
    id="cleanclip_blinds_to_triggered_images",
    claim="CleanCLIP lowers the ASR, but the model does not classify triggered images as their "
    "true class again",
    source="arXiv:2412.20392",
    paper="OpenAI's ViT-B/32, poisoned by fine-tuning on 500K pairs of CC3M; CA and accuracy of "
    "triggered images after CleanCLIP: 57.91 and 39.66 (BadNet), 57.69 and 46.12 (Blended), 57.55 "
    "and 4.25 (BadCLIP). After RVPT, the repair of that paper: 62.76 and 58.94, 62.36 and 53.27, "
    "61.81 and 53.9. A clean model has 62.01, and 58.29, 54.16 and 55.34.",
    scope="Half of the paper's finding: its repair, rvpt, needs a vision transformer and is not "
    "checked. A trigger also hides a part of the image, which costs the clean model 4 to 8 points.",
    columns="cells.csv clean_accuracy, cells.csv triggered_accuracy",
    comparison="On victims that were backdoored before cleanclip, CA less the accuracy of "
    "triggered images after it must be at least gap, the smallest difference of the paper",
    thresholds={"backdoored": 0.5, "gap": 0.1157},
)


def check(tables: Tables) -> Outcome:
    """Check how far the accuracy of triggered images is below the CA after ``cleanclip``."""
    cells, limits = tables.cells, CLAIM.thresholds
    start = victims.backdoored(cells, limits["backdoored"])[list(PAIR)]
    cleaned = victims.poisoned(cells[cells["method"] == "cleanclip"]).merge(start, on=list(PAIR))
    if TRIGGERED not in cleaned or cleaned[TRIGGERED].isna().all():
        return untested("No backdoored victim has a triggered accuracy after `cleanclip`.")
    rows = victims.by_victim(cleaned.dropna(subset=[TRIGGERED]))
    gap = tables.number("CA less triggered accuracy after cleanclip", rows[CLEAN] - rows[TRIGGERED])
    because = f"Triggered images are {gap.text('.1f')} points below clean ones after `cleanclip`"
    return tested(f"{because} ({gap.sample()}).", [gap], holds=gap.low >= limits["gap"])
