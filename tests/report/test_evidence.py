"""Numbers that claims are judged by: what counts once, and what an interval is over."""

from itertools import product

import pandas as pd
import pytest

from clipmend.report.cells import PAIR
from clipmend.report.evidence import Evidence, beside, by_victim
from clipmend.report.intervals import student_interval

NOTHING = pd.DataFrame()
EVIDENCE = Evidence(NOTHING, NOTHING, NOTHING, {}, 0.95)


def victim(value, attack="badnet", trigger="badnet", seed=0, method="ft"):
    place = dict(zip(PAIR, ("scenes", attack, trigger, "mmcl", seed), strict=True))
    return place | {"method": method, "rate": value}


def number(*rows):
    return EVIDENCE.number("rate", by_victim(pd.DataFrame(rows))["rate"])


def test_a_victim_of_several_triggers_counts_once() -> None:
    triggers = [victim(0.2, "multi", "multi.sig"), victim(0.6, "multi", "multi.badnet")]
    found = number(*triggers, victim(0.8))
    assert (found.mean, found.n) == (pytest.approx(0.6), 2)


def test_victims_of_one_seed_are_no_sample_of_seeds() -> None:
    found = number(victim(0.2), victim(0.4, "sig"), victim(0.9, "blended"))
    assert found.interval == (0.2, 0.9)
    assert found.counted() == "n = 3 victims of one seed, lowest to highest"


def test_one_victim_has_no_ends() -> None:
    found = number(victim(0.2))
    assert (found.low, found.interval, found.high) == (0.2, None, 0.2)
    assert found.counted("pairs") == "n = 1 pairs of one seed"


def test_over_seeds_the_interval_is_that_of_their_means() -> None:
    rates = {0: (0.1, 0.9), 1: (0.2, 0.8), 2: (0.3, 0.6)}  # alike between seeds, not within
    found = number(
        *(
            victim(rates[seed][place], attack, seed=seed)
            for seed, (place, attack) in product(rates, enumerate(("badnet", "sig")))
        )
    )
    assert found.interval == pytest.approx(student_interval([0.5, 0.5, 0.45], 0.95))
    assert found.counted() == "n = 6 victims of 3 seeds"


def test_a_seed_of_more_victims_weighs_no_more() -> None:
    found = number(victim(0.0), victim(0.0, "sig"), victim(0.0, "wanet"), victim(1.0, seed=1))
    assert found.mean == 0.5


def test_the_best_is_told_by_victims_that_all_have_and_once_of_each() -> None:
    places = [("multi", "multi.a"), ("multi", "multi.b"), ("sig", "sig")]
    ours = pd.DataFrame([victim(0.5, *place, method="ubt") for place in places])
    rates = {"ft": (0.2, 0.2, 0.6), "par": (0.5, 0.5, 0.2)}  # by rows ft is lower, by victims par
    others = [
        victim(rate, *place, method=name)
        for name, each in rates.items()
        for place, rate in zip(places, each, strict=True)
    ]
    compared = beside(
        ours, pd.DataFrame([*others, victim(0.0, "sig", "sig", method="abl")]), "rate"
    )
    assert compared.best("rate", -1) == "par"
    assert compared.left_out == ("abl",)
