"""At the best epoch of any rate, CleanCLIP costs victims of MMCL + SSL more CA than those of MMCL.

MMCL is the multimodal contrastive loss, SSL the self-supervised loss.
"""

import pandas as pd

from clipmend.report.cells import ATTACK, CLEAN, VICTIM
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested
from clipmend.report.claims.cleanings import best_below
from clipmend.report.claims.ssl_survives_cleanclip import MMCL_SSL, both_objectives
from clipmend.report.detection import victim_fields

CLAIM = Claim(
    id="ssl_survives_every_epoch",
    claim="At the best epoch of any learning rate, CleanCLIP costs models trained with MMCL and "
    "SSL more accuracy than those trained with MMCL",
    source="arXiv:2311.14948",
    paper="As under ssl_survives_cleanclip; points of the start's CA that the best CA at an ASR "
    "below 5 % costs, CC3M and CC6M: MMCL -0.49 and -0.28; MMCL + SSL 2.88 and 10.81.",
    scope="This is the paper's own reading: every epoch of every rate, on the validation images. "
    "No defender can choose the epoch by the trigger, so the best epoch is an upper bound of what "
    "tuning reaches. The margin is above two standard errors of a CA near 85 % on 2,000 images.",
    columns="curve.csv attack_success_rate, curve.csv clean_accuracy",
    comparison="Backdoored victims under mmcl and mmcl_ssl, cleaned with both terms of the loss at "
    "several rates, are paired by attack and seed. The cost is the start's CA minus the CA of the "
    "best epoch with an ASR below cleaned. If no epoch is below, the cost under mmcl_ssl is all of "
    "the CA, and under mmcl the claim is not supported. The cost under mmcl_ssl minus that under "
    "mmcl must be at least margin in the mean, and above 0",
    thresholds={"backdoored": 0.5, "cleaned": 0.05, "margin": 0.02},
)


def check(tables: Tables) -> Outcome:
    """Check whether ``mmcl_ssl`` loses more CA, on pairs whose ``mmcl`` victim can be cleaned."""
    both = both_objectives(_best_epochs(tables))
    if both.empty:
        return untested(
            "No attack has backdoored victims of both objectives that CleanCLIP's own loss was "
            "swept on."
        )
    # Where no epoch cleans the victim of `mmcl`, a loss to compare with is missing.
    cleaned = both.dropna(subset=["lost"])
    if cleaned.empty:
        return tested("No epoch of any rate cleaned a victim of `mmcl`.", holds=False)
    # A victim of `mmcl_ssl` that no epoch cleans counts as having lost all of its CA.
    lost = cleaned["lost_ssl"].fillna(cleaned["start_ssl"])
    plain = tables.number("CA lost by cleaning mmcl", cleaned["lost"])
    ssl = tables.number("CA lost by cleaning mmcl_ssl", lost)
    more = tables.number("CA lost, mmcl_ssl less mmcl", lost - cleaned["lost"])
    is_enough = more.mean >= CLAIM.thresholds["margin"] and more.low > 0
    return tested(
        f"At the best epoch with ASR < 5 % on val, CleanCLIP costs {plain.text('.1f')} points of "
        f"CA after `mmcl` and {ssl.text('.1f')} after `mmcl_ssl`, {more.text()} more "
        f"({more.sample('pairs of victims')}; no epoch cleaned {len(both) - len(cleaned)} of the "
        f"`mmcl` and {int(both['lost_ssl'].isna().sum())} of the `mmcl_ssl` ones).",
        (plain, ssl, more),
        holds=len(cleaned) == len(both) and is_enough,
    )


def _best_epochs(tables: Tables) -> pd.DataFrame:
    """Return the start's CA and what the best epoch of any rate lost, missing if none is clean."""
    runs = [run for run in tables.cleanings if run.loss == MMCL_SSL and not run.changes]
    rows = []
    for victim in dict.fromkeys(run.victim for run in runs):
        sweep = [run for run in runs if run.victim == victim]
        start = sweep[0].start
        best = best_below(pd.concat([run.points for run in sweep]), CLAIM.thresholds["cleaned"])
        if start[ATTACK] >= CLAIM.thresholds["backdoored"]:
            lost = float("nan") if best is None else start[CLEAN] - best[CLEAN]
            rows.append(victim_fields(victim) | {"start": start[CLEAN], "lost": lost})
    return pd.DataFrame(rows, columns=[*VICTIM, "start", "lost"])
