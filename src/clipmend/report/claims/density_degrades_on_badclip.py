"""Detectors by density find the poison of BadCLIP less well than that of BadNet."""

from clipmend.report.cells import VICTIM
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

DENSITY = ("k_distance", "slof", "lid", "dao")
PRECISION = "average_precision"

CLAIM = Claim(
    id="density_degrades_on_badclip",
    claim="Detectors by local density find the poison of BadCLIP less well than that of BadNet",
    source="arXiv:2608.25851, arXiv:2502.01385",
    paper="Area under the precision-recall curve on ViT-B/32, of test inputs: 0.96 for CLIP "
    "Backdoor, whose trigger is BadNet's patch, and 0.69 for BadCLIP. The second paper's detectors "
    "were measured by the first.",
    scope="Training pairs are ranked here, not test inputs. Both attacks must have as many "
    "poisoned pairs, since average precision depends on their share.",
    columns="detectors.csv average_precision, detectors.csv n_poisoned, cells.csv "
    "attack_success_rate",
    comparison="Backdoored victims of badclip and of badnet are paired by detector (k_distance, "
    "slof, lid, dao), objective and seed. Average precision on badnet less that on badclip must be "
    "above 0",
    thresholds={"backdoored": 0.5},
)


def check(tables: Tables) -> Outcome:
    """Check by how much average precision is lower on ``badclip``, over the four detectors."""
    start = victims.backdoored(tables.cells, CLAIM.thresholds["backdoored"])
    scored = tables.detectors[tables.detectors["method"].isin(DENSITY)]
    if scored.empty:
        return untested("No detector by density scored a victim.")
    scored = scored.merge(start[list(VICTIM)].drop_duplicates(), on=list(VICTIM))
    same = ["corpus", "objective", "seed", "method", "n_poisoned"]
    badclip, badnet = (scored[scored["attack"] == name] for name in ("badclip", "badnet"))
    both = badclip.merge(badnet[[*same, PRECISION]], on=same, suffixes=("", "_badnet"))
    if both.empty:
        return untested(
            "No detector by density scored backdoored victims of both `badclip` and `badnet`."
        )
    both = victims.by_victim(both)
    less = tables.number(
        "average precision on badnet less that on badclip",
        both[f"{PRECISION}_badnet"] - both[PRECISION],
    )
    because = f"Average precision on `badnet` is {less.text()} points from that on `badclip`"
    return tested(f"{because} ({less.sample('pairs of victims')}).", [less], holds=less.low > 0)
