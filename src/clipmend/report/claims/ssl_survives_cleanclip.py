"""Victims of MMCL + SSL keep their backdoor, however CleanCLIP is tuned.

MMCL is the multimodal contrastive loss, SSL the self-supervised loss.
"""

from collections.abc import Mapping

import pandas as pd

from clipmend.methods.table import base
from clipmend.report.cells import ATTACK, CLEAN, PAIR, VICTIM
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested

CLAIM = Claim(
    id="ssl_survives_cleanclip",
    claim="CleanCLIP removes the backdoor of models trained with MMCL and, however tuned, not of "
    "those trained with MMCL and SSL",
    source="arXiv:2311.14948",
    paper="RN50 from nothing, BadNet patch, CleanCLIP on 100K pairs, every epoch of every rate; "
    "start CA / ASR, then the best CA at an ASR below 5 %. CC3M, 1,500 poisons: MMCL 16.00 / "
    "99.88, 16.49; MMCL + SSL 17.04 / 99.03, 14.16. CC6M, 3,000 poisons: MMCL 23.76 / 99.98, "
    "24.04; MMCL + SSL 23.86 / 99.45, 13.05.",
    scope="Compared are the models after the last step of each cleaning, not every epoch. As in "
    "the paper, the best is chosen on the test images: the most that tuning could reach with the "
    "cleanings in the grid. These are cleanclip and its variants, those with more clean pairs "
    "included. The cost threshold is between the paper's own numbers: no cost for MMCL, 0.17 and "
    "0.45 of the start's CA for MMCL + SSL.",
    columns="cells.csv attack_success_rate, cells.csv clean_accuracy",
    comparison="Backdoored victims under mmcl and mmcl_ssl are paired by attack and seed. The "
    "cleanclip cells that both victims have are compared, if there are at least tries. For each "
    "victim, the cost is the share of the start's CA that the best of them lost: the one with the "
    "highest CA among those with an ASR below cleaned. If no ASR is below cleaned, the cost is 1. "
    "The cost of mmcl must be at most cost, that of mmcl_ssl above cost, and the difference above "
    "0",
    thresholds={"backdoored": 0.5, "tries": 4, "cleaned": 0.05, "cost": 0.1},
)
MMCL, MMCL_SSL = "mmcl", "mmcl_ssl"


def check(tables: Tables) -> Outcome:
    """Check whether CleanCLIP cleans the ``mmcl`` victims cheaply and the ``mmcl_ssl`` ones not."""
    limits, cells = CLAIM.thresholds, tables.cells
    reached = best_cleanings(cells[cells["objective"].isin([MMCL, MMCL_SSL])], "objective", limits)
    # The best of a few tries says little about tuning.
    both = both_objectives(reached[reached["tries"] >= limits["tries"]])
    if both.empty:
        return untested(
            "No attack has backdoored victims of both `mmcl` and `mmcl_ssl` that `cleanclip` and "
            f"its variants cleaned at least {limits['tries']:g} times each."
        )
    plain = tables.number("share of CA lost by cleaning mmcl", both["lost"])
    ssl = tables.number("share of CA lost by cleaning mmcl_ssl", both["lost_ssl"])
    more = tables.number("share lost, mmcl_ssl less mmcl", both["lost_ssl"] - both["lost"])
    fewest, most = both["tries"].min(), both["tries"].max()
    # By victim: under several triggers it still is one.
    missing = both[["best", "best_ssl"]].isna().groupby(level=list(VICTIM)).any().sum()
    return tested(
        f"The best CA at an ASR below {100 * limits['cleaned']:g} % costs {plain.text('.1f')} % of "
        f"the start's CA after `mmcl` and {ssl.text('.1f')} % after `mmcl_ssl`, {more.text()} "
        f"points more ({more.sample('pairs of victims')}; cleanings of each: {fewest}"
        f"{'' if fewest == most else f' to {most}'}; none got so low in {missing['best']} of the "
        f"`mmcl` and {missing['best_ssl']} of the `mmcl_ssl` ones, which count as all of the CA "
        "lost).",
        (plain, ssl, more),
        holds=plain.high <= limits["cost"] < ssl.low and more.low > 0,
    )


def best_cleanings(cells: pd.DataFrame, apart: str, limits: Mapping[str, float]) -> pd.DataFrame:
    """Return a row per backdoored victim of each pair that CleanCLIP was tried on.

    The two victims of a pair differ in the column ``apart`` alone. ``tries`` counts the cleanings
    that both had. ``best`` is the highest CA among those with an ASR below ``cleaned``, missing if
    there is none; ``lost`` is the share of the start's CA that it costs, 1 if there is none.
    """
    poisoned = victims.poisoned(cells)
    is_try = [
        base(name) == "cleanclip" and victims.poisons_in(name) is None
        for name in poisoned["method"]
    ]
    start = victims.backdoored(cells, limits["backdoored"])[[*PAIR, CLEAN]]
    tried = poisoned.loc[is_try].merge(start[list(PAIR)], on=list(PAIR))
    # The best of more tries is not comparable: a cleaning of one victim alone is left out.
    same = [*(name for name in PAIR if name != apart), "method"]
    tried = tried[tried.groupby(same)[apart].transform("nunique") > 1]
    count = tried.groupby(list(PAIR)).size().rename("tries").reset_index()
    below = tried[tried[ATTACK] < limits["cleaned"]]
    best = below.groupby(list(PAIR))[CLEAN].max().rename("best").reset_index()
    # A victim that no cleaning brought below the limit keeps its row, without a best.
    reached = start.merge(count, on=list(PAIR)).merge(best, on=list(PAIR), how="left")
    return reached.assign(lost=1 - reached["best"].fillna(0) / reached[CLEAN])


def both_objectives(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per pair of victims of both objectives; the second's columns end in ``_ssl``."""
    same = [name for name in PAIR if name != "objective" and name in table]
    plain, ssl = (table[table["objective"] == name] for name in (MMCL, MMCL_SSL))
    return victims.by_victim(plain.merge(ssl, on=same, suffixes=("", "_ssl")))
