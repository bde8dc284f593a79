"""Judges of the claims on what CleanCLIP can and cannot clean (arXiv:2311.14948)."""

from itertools import combinations

import pandas as pd

from clipmend.methods.table import base
from clipmend.report.cells import PAIR
from clipmend.report.evidence import (
    Evidence,
    Finding,
    Limits,
    by_victim,
    judgment,
    mean_over_victims,
    paired,
    planted,
    poisoned_cells,
    poisons_of,
    untested,
    victims_of,
)
from clipmend.report.table import ATTACK, CLEAN

_CLEANING = "cleanclip"
_PLAIN, _WITH_SSL = "mmcl", "mmcl_ssl"


def best_cleanings(cells: pd.DataFrame, limits: Limits, apart: str) -> pd.DataFrame:
    """Return a row per planted victim of each pair that CleanCLIP was tried on.

    A pair are two victims that one column alone tells apart. What one was cleaned by and the
    other was not is left out: the best of more tries is no fair match.

    ``best`` is the highest CA among the ``tries`` that left an ASR below ``cleaned``, missing where
    none did; ``lost`` is the share of the start's CA that it costs, all of it where none did.

    Args:
        apart: the column, which has two values in these cells.
    """
    poisoned = poisoned_cells(cells)
    is_try = [base(name) == _CLEANING and poisons_of(name) is None for name in poisoned["method"]]
    start = planted(cells, limits["planted"])[[*PAIR, CLEAN]]
    tried = poisoned.loc[is_try].merge(start[list(PAIR)], on=list(PAIR))
    alike = [*(name for name in PAIR if name != apart), "method"]
    tried = tried[tried.groupby(alike)[apart].transform("nunique") > 1]
    count = tried.groupby(list(PAIR)).size().rename("tries").reset_index()
    below = tried[tried[ATTACK] < limits["cleaned"]]
    best = below.groupby(list(PAIR))[CLEAN].max().rename("best").reset_index()
    found = start.merge(count, on=list(PAIR)).merge(best, on=list(PAIR), how="left")
    found["lost"] = 1 - found["best"].fillna(0) / found[CLEAN]
    return found


def survives_cleaning(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether CleanCLIP cleans ``mmcl`` victims and not ``mmcl_ssl`` ones, however tuned.

    An objective is cleaned where the best CA at a low ASR costs at most ``cost`` of the start's.
    What a tuning reaches is told by ``tries`` cleanings or more, the same of either objective.
    """
    of_either = evidence.cells["objective"].isin([_PLAIN, _WITH_SSL])
    found = best_cleanings(evidence.cells[of_either], limits, "objective")
    both = _both_objectives(found[found["tries"] >= limits["tries"]])
    if both.empty:
        return untested(
            "No attack was planted under both `mmcl` and `mmcl_ssl` and cleaned by `cleanclip` and "
            f"its variants, by {limits['tries']:g} of them or more under both."
        )
    plain = evidence.number("share of CA lost by cleaning mmcl", both["lost"])
    ssl = evidence.number("share of CA lost by cleaning mmcl_ssl", both["lost_ssl"])
    more = evidence.number("share lost, mmcl_ssl less mmcl", both["lost_ssl"] - both["lost"])
    holds = plain.high <= limits["cost"] < ssl.low and more.low > 0
    return Finding(
        judgment(holds=holds),
        f"The best CA at an ASR below {100 * limits['cleaned']:g} % costs {plain.percent()} % of "
        f"the start's CA after `mmcl` and {ssl.percent()} % after `mmcl_ssl`, "
        f"{more.points()} points more ({more.counted('pairs of victims')}; "
        f"cleanings of each: {_span(both['tries'])}; "
        f"{_uncleaned(both['best'], both['best_ssl'])}).",
        (plain, ssl, more),
    )


def survives_every_epoch(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether ``mmcl_ssl`` costs CleanCLIP more CA, at the best epoch of any rate.

    Of planted victims that some epoch cleans under ``mmcl``: without one there is nothing to
    compare. One that no epoch cleans under ``mmcl_ssl`` has lost all of its CA.
    """
    works = evidence.sweep["start_attack_success_rate"] >= limits["planted"]
    swept = evidence.sweep[works & (evidence.sweep["cleaning"] == "mmcl_ssl")].copy()
    best = swept["best_clean_accuracy_asr5"].astype(float)
    swept["lost"] = swept["start_clean_accuracy"] - best
    both = _both_objectives(swept)
    if both.empty:
        return untested(
            "CleanCLIP's loss was not swept on victims of both objectives with one attack planted."
        )
    cleaned = both.dropna(subset=["lost"])
    if cleaned.empty:
        return Finding(judgment(holds=False), "No epoch of any rate cleaned a victim of `mmcl`.")
    lost = cleaned["lost_ssl"].fillna(cleaned["start_clean_accuracy_ssl"])
    numbers = (
        evidence.number("CA lost by cleaning mmcl", cleaned["lost"]),
        evidence.number("CA lost by cleaning mmcl_ssl", lost),
        evidence.number("CA lost, mmcl_ssl less mmcl", lost - cleaned["lost"]),
    )
    plain, ssl, more = numbers
    holds = len(cleaned) == len(both) and more.mean >= limits["margin"] and more.low > 0
    return Finding(
        judgment(holds=holds),
        f"At the best epoch with ASR < 5 % on val, CleanCLIP costs {plain.percent()} points of CA "
        f"after `mmcl` and {ssl.percent()} after `mmcl_ssl`, {more.points()} more "
        f"({more.counted('pairs of victims')}; no epoch cleaned {len(both) - len(cleaned)} of the "
        f"`mmcl` and {int(both['lost_ssl'].isna().sum())} of the `mmcl_ssl` ones).",
        numbers,
    )


def harder_from_higher(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether victims of a higher start CA lose more by being cleaned.

    Corpora are compared two by two, on the same attack, objective and seed: the one whose victims
    start higher on average less the other. Of each pair the same cleanings count.
    """
    cells = evidence.cells[evidence.cells["objective"].isin([_PLAIN, _WITH_SSL])]
    on = [name for name in PAIR if name != "corpus"]
    sizes, parts = evidence.sizes, []
    for one, other in combinations(sorted(set(cells["corpus"])), 2):
        if one in sizes and other in sizes and sizes[one] != sizes[other]:
            found = best_cleanings(cells[cells["corpus"].isin([one, other])], limits, "corpus")
            both = found[found["corpus"] == one].merge(
                found[found["corpus"] == other], on=on, suffixes=("", "_other")
            )
            both = by_victim(both.assign(corpus=f"{one}, {other}"))
            higher, more = both[CLEAN] - both[f"{CLEAN}_other"], both["lost"] - both["lost_other"]
            sign = 1 if mean_over_victims(higher) > 0 else -1
            parts.append(pd.DataFrame({"start": sign * higher, "lost": sign * more}))
    differences = pd.concat(parts) if parts else pd.DataFrame()
    if differences.empty:
        return untested("No attack was planted and cleaned on corpora of two sizes.")
    start = evidence.number("CA of the start, higher less lower", differences["start"])
    lost = evidence.number("share of CA lost by cleaning, higher less lower", differences["lost"])
    return Finding(
        judgment(holds=start.low > 0 and lost.low > 0),
        f"Victims that start {start.points()} points of CA higher lose {lost.points()} points more "
        f"of it by being cleaned ({lost.counted('pairs of victims')}).",
        (start, lost),
    )


def few_poisons_defeat(evidence: Evidence, limits: Limits) -> Finding:
    """Judge whether a few poisoned pairs among the trusted ones keep the backdoor alive.

    On victims that ``cleanclip`` cleans with none; judged by the largest number of poisons that
    was tried and is at most ``most``.
    """
    poisoned = poisoned_cells(evidence.cells)
    clean = poisoned[(poisoned["method"] == _CLEANING) & (poisoned[ATTACK] < limits["cleaned"])]
    victims = planted(evidence.cells, limits["planted"])[list(PAIR)]
    clean = clean.merge(victims, on=list(PAIR))
    tried = {}
    for name in sorted(set(evidence.cells["method"])):
        count = poisons_of(name)
        if base(name) == _CLEANING and count is not None and 0 < count <= limits["most"]:
            # Whether such a variant calls itself a control is no matter: it is what is tested.
            slipped = evidence.cells[evidence.cells["method"] == name]
            both = paired(slipped, clean, ATTACK)
            if len(both):
                tried[count] = both
    if not tried:
        return untested("No victim that plain `cleanclip` cleans was cleaned with poisons too.")
    numbers = {
        count: (
            evidence.number(f"ASR with {count} poisons", both[ATTACK]),
            evidence.number(
                f"ASR with {count} poisons less that with none",
                both[ATTACK] - both[f"{ATTACK}_other"],
            ),
        )
        for count, both in tried.items()
    }
    most = max(tried)
    left, more = numbers[most]
    return Finding(
        judgment(holds=left.low >= limits["defeated"] and more.low > 0),
        f"With {most} poisons among the trusted pairs `cleanclip` leaves an ASR of "
        f"{left.percent()} %, {more.points()} points more than with none ({more.counted()}).",
        tuple(number for _, pair in sorted(numbers.items()) for number in pair),
    )


def _both_objectives(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row per pair of victims that only the objective tells apart."""
    on = [name for name in PAIR if name != "objective" and name in found]
    with_ssl = found[found["objective"] == _WITH_SSL]
    both = found[found["objective"] == _PLAIN].merge(with_ssl, on=on, suffixes=("", "_ssl"))
    return by_victim(both)


def _span(counts: "pd.Series[int]") -> str:
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _uncleaned(plain: "pd.Series[float]", ssl: "pd.Series[float]") -> str:
    return (
        f"none got so low in {victims_of(plain.isna())} of the `mmcl` and "
        f"{victims_of(ssl.isna())} of the `mmcl_ssl` ones, which count as all of the CA lost"
    )
