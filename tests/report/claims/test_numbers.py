"""Numbers of a claim: a victim counts once, and intervals are over seeds."""

from itertools import product

import pandas as pd
import pytest

from clipmend.report.cells import PAIR, student_interval
from clipmend.report.claims.check import Tables
from clipmend.report.claims.victims import by_victim, compare

NOTHING = pd.DataFrame()
TABLES = Tables(NOTHING, NOTHING, [], {}, 0.95)


def victim(value, attack="badnet", trigger="badnet", seed=0, method="ft"):
    place = dict(zip(PAIR, ("scenes", attack, trigger, "mmcl", seed), strict=True))
    return place | {"method": method, "rate": value}


def number(*rows):
    return TABLES.number("rate", by_victim(pd.DataFrame(rows))["rate"])


def test_a_victim_of_several_triggers_counts_once() -> None:
    triggers = [victim(0.2, "multi", "multi.sig"), victim(0.6, "multi", "multi.badnet")]
    mean = number(*triggers, victim(0.8))
    assert (mean.mean, mean.n) == (pytest.approx(0.6), 2)


def test_with_one_seed_the_ends_are_the_lowest_and_the_highest_victim() -> None:
    mean = number(victim(0.2), victim(0.4, "sig"), victim(0.9, "blended"))
    assert mean.interval == (0.2, 0.9)
    assert mean.sample() == "n = 3 victims of one seed, lowest to highest"


def test_one_victim_has_no_interval() -> None:
    mean = number(victim(0.2))
    assert (mean.low, mean.interval, mean.high) == (0.2, None, 0.2)
    assert mean.sample("pairs") == "n = 1 pairs of one seed"


def test_with_several_seeds_the_interval_is_over_their_means() -> None:
    rates = {0: (0.1, 0.9), 1: (0.2, 0.8), 2: (0.3, 0.6)}  # alike between seeds, not within
    mean = number(
        *(
            victim(rates[seed][place], attack, seed=seed)
            for seed, (place, attack) in product(rates, enumerate(("badnet", "sig")))
        )
    )
    assert mean.interval == pytest.approx(student_interval([0.5, 0.5, 0.45], 0.95))
    assert mean.sample() == "n = 6 victims of 3 seeds"


def test_seeds_weigh_the_same_however_many_victims_they_have() -> None:
    mean = number(victim(0.0), victim(0.0, "sig"), victim(0.0, "wanet"), victim(1.0, seed=1))
    assert mean.mean == 0.5


def test_the_best_rival_is_chosen_among_those_with_all_victims_each_counted_once() -> None:
    places = [("multi", "multi.a"), ("multi", "multi.b"), ("sig", "sig")]
    ours = pd.DataFrame([victim(0.5, *place, method="ubt") for place in places])
    rates = {"ft": (0.2, 0.2, 0.6), "par": (0.5, 0.5, 0.2)}  # by rows ft is lower, by victims par
    others = [
        victim(rate, *place, method=name)
        for name, each in rates.items()
        for place, rate in zip(places, each, strict=True)
    ]
    compared = compare(
        ours, pd.DataFrame([*others, victim(0.0, "sig", "sig", method="abl")]), "rate"
    )
    assert compared.best("rate", -1) == "par"
    assert compared.left_out == ("abl",)
