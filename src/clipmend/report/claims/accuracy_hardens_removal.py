"""Victims of a higher start CA lose more of it by cleaning."""

from itertools import combinations

import pandas as pd

from clipmend.report.cells import CLEAN, PAIR
from clipmend.report.claims import victims
from clipmend.report.claims.check import Claim, Outcome, Tables, tested, untested
from clipmend.report.claims.ssl_survives_cleanclip import MMCL, MMCL_SSL, best_cleanings

CLAIM = Claim(
    id="accuracy_hardens_removal",
    claim="The higher the zero-shot accuracy of the poisoned model, the harder its backdoor is to "
    "remove",
    source="arXiv:2311.14948",
    paper="Share of the start's CA lost at an ASR below 5 %, CC3M and CC6M (starts as under "
    "ssl_survives_cleanclip): MMCL -0.031 and -0.012; MMCL + SSL 0.169 and 0.453.",
    scope="More pairs raise the accuracy, but also the numbers of poisons and of steps. The "
    "cleaning budget is the same for both corpora: a cleaning of one corpus alone does not count.",
    columns="cells.csv attack_success_rate, cells.csv clean_accuracy",
    comparison="Corpora of one name and different numbers of training pairs are compared two by "
    "two. Backdoored victims of both are paired by attack, objective (mmcl or mmcl_ssl) and seed. "
    "The corpus with the lower mean CA of the start is subtracted from the other. The difference "
    "in the CA of the start must be above 0, and so must that in the cost, as under "
    "ssl_survives_cleanclip",
    thresholds={"backdoored": 0.5, "cleaned": 0.05},
    over="sizes",
)


def check(tables: Tables) -> Outcome:
    """Check whether the corpus whose victims start higher also loses more."""
    cells = tables.cells[tables.cells["objective"].isin([MMCL, MMCL_SSL])]
    pairs = {name: scale.train_pairs for name, scale in tables.scales.items()}
    sized = sorted(name for name in set(cells["corpus"]) if pairs.get(name) is not None)
    parts = [
        _differences(cells[cells["corpus"].isin(two)], *two)
        for two in combinations(sized, 2)
        if pairs[two[0]] != pairs[two[1]]
    ]
    differences = pd.concat(parts) if parts else pd.DataFrame()
    if differences.empty:
        return untested("No attack has backdoored and cleaned victims on corpora of two sizes.")
    start = tables.number("CA of the start, higher less lower", differences["start"])
    lost = tables.number("share of CA lost by cleaning, higher less lower", differences["lost"])
    return tested(
        f"Victims that start {start.text()} points of CA higher lose {lost.text()} points more of "
        f"it by cleaning ({lost.sample('pairs of victims')}).",
        (start, lost),
        holds=start.low > 0 and lost.low > 0,
    )


def _differences(cells: pd.DataFrame, corpus: str, other: str) -> pd.DataFrame:
    """Return start CA and lost share, the corpus that starts higher minus the other, by pair."""
    reached = best_cleanings(cells, "corpus", CLAIM.thresholds)
    first, second = (reached[reached["corpus"] == name] for name in (corpus, other))
    same = [name for name in PAIR if name != "corpus"]
    both = first.merge(second, on=same, suffixes=("", "_other"))
    # A pair of victims counts as one victim, so it needs a corpus of its own.
    both = victims.by_victim(both.assign(corpus=f"{corpus}, {other}"))
    start, lost = both[CLEAN] - both[f"{CLEAN}_other"], both["lost"] - both["lost_other"]
    # The claim is about the higher start, which need not be the larger corpus.
    sign = 1 if victims.seed_means(start).mean() > 0 else -1
    return pd.DataFrame({"start": sign * start, "lost": sign * lost})
