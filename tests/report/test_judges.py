"""Each judge on tables by hand: the claim holds, fails, and cannot be tested."""

import pandas as pd
import pytest

from clipmend.report.claims import stated_claims
from clipmend.report.detectors import COLUMNS
from clipmend.report.evidence import Evidence
from clipmend.report.judges import JUDGES
from clipmend.report.pareto import pareto_table

NO_DETECTORS = pd.DataFrame(columns=list(COLUMNS))
# Victims differ a little, so that intervals have a width.
JITTER = (0.0, 0.004, -0.003)
NEEDS = {"abl": "train", "ubt": "train", "pud": "train"}


def cell(method="none", ca=0.8, asr=0.9, seed=0, **given):
    stated = {
        "corpus": "scenes",
        "attack": "badnet",
        "objective": "mmcl",
        "method": method,
        "control": False,
        "needs": "" if method == "none" else NEEDS.get(method, "trusted"),
    }
    stated |= {"clean_accuracy": ca + JITTER[seed], "attack_success_rate": asr, "seed": seed}
    return {"trigger": stated["attack"], **stated, **given}


def seeds(method="none", ca=0.8, asr=0.9, **given):
    return [cell(method, ca, asr + JITTER[seed], seed, **given) for seed in range(3)]


def judge(claim, *rows, detectors=NO_DETECTORS, sizes=None):
    (limits,) = (one.judged["thresholds"] for one in stated_claims() if one.id == claim)
    cells = pd.DataFrame([row for part in rows for row in part])
    return JUDGES[claim](Evidence(cells, detectors, pareto_table([]), sizes or {}, 0.95), limits)


def means(finding):
    return {number.name: number.mean for number in finding.numbers}


# UBT has the lowest ASR.


def test_ubt_is_ahead_by_the_margin_and_in_accuracy() -> None:
    found = judge("ubt_lowest_asr", seeds(), seeds("ft", 0.75, 0.3), seeds("ubt", 0.79, 0.01))
    assert found.verdict == "supported"
    assert means(found) == pytest.approx(
        {"ASR of ft less that of ubt": 0.29, "CA of ubt less that of ft": 0.04}
    )
    assert "points below it" in found.because


@pytest.mark.parametrize(
    "others",
    [
        [("ft", 0.75, 0.1)],  # no room for 19 points
        [("ft", 0.80, 0.4)],  # at a lower CA
        [("ft", 0.75, 0.4), ("cleanclip", 0.7, 0.02)],  # another is better
    ],
)
def test_ubt_is_not_ahead_without_both(others) -> None:
    rows = [seeds(*other) for other in others]
    assert judge("ubt_lowest_asr", *rows, seeds("ubt", 0.79, 0.01)).verdict == "not supported"


def test_a_margin_that_one_victim_lacks_is_none() -> None:
    uneven = [cell("ft", 0.75, asr, seed) for seed, asr in enumerate((0.1, 0.3, 0.9))]
    assert judge("ubt_lowest_asr", uneven, seeds("ubt", 0.79, 0.01)).verdict == "not supported"


def test_a_rival_that_lacks_a_victim_is_left_out_and_named() -> None:
    ours = [*seeds("ubt", 0.79, 0.01), *seeds("ubt", 0.79, 0.01, attack="blended")]
    everywhere = [*seeds("ft", 0.75, 0.3), *seeds("ft", 0.75, 0.3, attack="blended")]
    found = judge("ubt_lowest_asr", ours, everywhere, seeds("par", 0.8, 0.0))
    assert found.verdict == "supported"
    assert found.because.startswith("The best other is `ft`")
    assert found.because.endswith("Left out, for lack of some of these victims: `par`.")
    alone = judge("ubt_lowest_asr", ours, seeds("par", 0.8, 0.0))
    assert alone.verdict == "not tested here"
    assert "`par`" in alone.because


def test_controls_variants_and_sabotaged_repairs_are_no_others_of_ubt() -> None:
    found = judge(
        "ubt_lowest_asr",
        seeds("ubt", 0.79, 0.01),
        seeds("ubt@oracle", 0.8, 0.0, control=True),
        seeds("ubt@early", 0.7, 0.9),
        seeds("cleanclip@poisons5", 0.7, 0.9),
    )
    assert found.verdict == "not tested here"


# CleanCLIP cleans MMCL and not MMCL with SSL.

CLEANED = [*seeds(), *seeds("cleanclip", 0.78, 0.02)]
TRIES = ("cleanclip", "cleanclip@lr1", "cleanclip@lr2", "cleanclip@hard")
FIVE = (*TRIES, "cleanclip@lr3")


def tried(*reached, objective="mmcl", names=TRIES, start=0.9):
    """Return victims and what their cleanings reached; the others of them leave the backdoor."""
    each = [*reached, *[(0.79, 0.6)] * (len(names) - len(reached))]
    rows = [
        seeds(name, *rates, objective=objective) for name, rates in zip(names, each, strict=True)
    ]
    return [*seeds(asr=start, objective=objective), *(row for part in rows for row in part)]


def test_a_backdoor_that_no_tuning_removes_survives() -> None:
    ssl = tried((0.4, 0.02), objective="mmcl_ssl")
    found = judge("ssl_survives_cleanclip", tried((0.78, 0.02)), ssl)
    assert found.verdict == "supported"
    assert means(found)["share of CA lost by cleaning mmcl_ssl"] == pytest.approx(0.5, abs=0.01)
    assert "cleanings of each: 4" in found.because


def test_where_no_try_gets_low_all_of_the_accuracy_is_lost() -> None:
    ssl = tried(objective="mmcl_ssl")
    found = judge("ssl_survives_cleanclip", tried((0.78, 0.02)), ssl)
    assert found.verdict == "supported"
    assert means(found)["share of CA lost by cleaning mmcl_ssl"] == 1
    assert "in 0 of the `mmcl` and 3 of the `mmcl_ssl` ones" in found.because


@pytest.mark.parametrize("tuned", [(0.78, 0.02), (0.73, 0.0)])
def test_a_backdoor_that_one_tuning_removes_cheaply_does_not_survive(tuned) -> None:
    ssl = tried(tuned, objective="mmcl_ssl")
    found = judge("ssl_survives_cleanclip", tried((0.78, 0.02)), ssl)
    assert found.verdict == "not supported"


def test_that_both_survive_does_not_support_the_claim() -> None:
    rows = [tried(objective=objective) for objective in ("mmcl", "mmcl_ssl")]
    assert judge("ssl_survives_cleanclip", *rows).verdict == "not supported"


@pytest.mark.parametrize(
    "ssl",
    [
        [],
        seeds(objective="mmcl_ssl"),  # nobody tried
        tried((0.7, 0.0), objective="mmcl_ssl", start=0.3),
        tried(objective="mmcl_ssl", names=[f"cleanclip@poisons{count}" for count in range(4)]),
    ],
)
def test_without_a_planted_and_cleaned_victim_of_each_it_is_not_tested(ssl) -> None:
    assert judge("ssl_survives_cleanclip", tried((0.78, 0.02)), ssl).verdict == "not tested here"


@pytest.mark.parametrize(("plain", "ssl"), [(1, 1), (3, 3), (3, 5), (5, 3)])
def test_tuning_is_judged_by_the_cleanings_of_both_and_not_by_a_few(plain, ssl) -> None:
    rows = [
        tried((0.78, 0.02), names=FIVE[:plain]),
        tried(objective="mmcl_ssl", names=FIVE[:ssl]),
    ]
    assert judge("ssl_survives_cleanclip", *rows).verdict == "not tested here"


def test_a_cleaning_that_one_objective_alone_had_does_not_count() -> None:
    plain = tried((0.6, 0.02), (0.7, 0.6), (0.7, 0.6), (0.7, 0.6), (0.78, 0.02), names=FIVE)
    ssl = tried((0.4, 0.02), objective="mmcl_ssl")
    found = judge("ssl_survives_cleanclip", plain, ssl)
    assert "cleanings of each: 4" in found.because
    assert means(found)["share of CA lost by cleaning mmcl"] == pytest.approx(0.25, abs=0.01)


# Accuracy makes removal harder.

SIZES = {"scenes": 8_000, "scenes@large": 64_000}


def large(ca, cleaned):
    start = seeds(ca=ca, corpus="scenes@large")
    return [*start, *seeds("cleanclip", cleaned, 0.01, corpus="scenes@large")]


def test_the_larger_corpus_loses_more() -> None:
    found = judge("accuracy_hardens_removal", CLEANED, large(0.9, 0.5), sizes=SIZES)
    assert found.verdict == "supported"
    assert means(found)["CA of the start, higher less lower"] == pytest.approx(0.1)
    expected = (1 - 0.5 / 0.9) - (1 - 0.78 / 0.8)
    assert list(means(found).values())[1] == pytest.approx(expected, abs=0.002)


def test_higher_is_what_started_higher_not_what_is_larger() -> None:
    found = judge("accuracy_hardens_removal", CLEANED, large(0.7, 0.695), sizes=SIZES)
    assert found.verdict == "supported"
    assert means(found)["CA of the start, higher less lower"] == pytest.approx(0.1)


def test_the_larger_corpus_loses_no_more() -> None:
    found = judge("accuracy_hardens_removal", CLEANED, large(0.9, 0.89), sizes=SIZES)
    assert found.verdict == "not supported"


def test_a_cleaning_that_one_corpus_alone_had_does_not_count() -> None:
    alone = seeds("cleanclip@lr1", 0.9, 0.01, corpus="scenes@large")
    found = judge("accuracy_hardens_removal", CLEANED, large(0.9, 0.5), alone, sizes=SIZES)
    assert found.verdict == "supported"
    assert found == judge("accuracy_hardens_removal", CLEANED, large(0.9, 0.5), sizes=SIZES)


@pytest.mark.parametrize("sizes", [{}, {"scenes": 8_000, "scenes@large": 8_000}])
def test_corpora_of_one_size_test_nothing(sizes) -> None:
    found = judge("accuracy_hardens_removal", CLEANED, large(0.9, 0.5), sizes=sizes)
    assert found.verdict == "not tested here"


# A few poisons defeat CleanCLIP.


def test_a_few_poisons_keep_the_backdoor() -> None:
    found = judge("few_poisons_defeat_cleanclip", CLEANED, seeds("cleanclip@poisons5", asr=0.5))
    assert found.verdict == "supported"
    assert means(found) == pytest.approx(
        {"ASR with 5 poisons": 0.5, "ASR with 5 poisons less that with none": 0.48}, abs=0.001
    )


def test_the_most_poisons_that_are_a_few_decide() -> None:
    tried = [
        ("cleanclip@poisons5", 0.03),
        ("cleanclip@poisons25", 0.04),
        ("cleanclip@poisons100", 0.9),
    ]
    rows = [seeds(name, asr=asr) for name, asr in tried]
    found = judge("few_poisons_defeat_cleanclip", CLEANED, *rows)
    assert found.verdict == "not supported"
    assert found.because.startswith("With 25 poisons")
    assert len(found.numbers) == 4


def test_where_cleanclip_fails_by_itself_poisons_defeat_nothing() -> None:
    rows = [seeds(), seeds("cleanclip", asr=0.5), seeds("cleanclip@poisons5", asr=0.9)]
    assert judge("few_poisons_defeat_cleanclip", *rows).verdict == "not tested here"
    assert judge("few_poisons_defeat_cleanclip", CLEANED).verdict == "not tested here"


# Adversarial examples are like triggered images.


def attacked(attack, cosine, rate, **given):
    seen = {f"adversarial_trigger_cosine_eps{eps}": cosine for eps in (2, 4)}
    seen |= {f"adversarial_target_rate_eps{eps}": rate for eps in (2, 4)}
    metrics = [{name: value + JITTER[seed] for name, value in seen.items()} for seed in range(3)]
    rows = seeds(
        asr=0.0 if attack == "unpoisoned" else 0.9, attack=attack, trigger="badnet", **given
    )
    return [row | seen for row, seen in zip(rows, metrics, strict=True)]


def test_what_the_same_trigger_does_to_an_unpoisoned_model_is_subtracted() -> None:
    found = judge(
        "adversarial_resembles_trigger",
        attacked("badnet", 0.5, 0.4),
        attacked("unpoisoned", 0.1, 0.1),
    )
    assert found.verdict == "supported"
    assert means(found) == pytest.approx(
        {
            "adversarial_trigger_cosine_eps2, poisoned less unpoisoned": 0.4,
            "adversarial_trigger_cosine_eps4, poisoned less unpoisoned": 0.4,
            "adversarial_target_rate_eps2, poisoned less unpoisoned": 0.3,
            "adversarial_target_rate_eps4, poisoned less unpoisoned": 0.3,
        }
    )


@pytest.mark.parametrize("clean", [(0.5, 0.1), (0.1, 0.4)])
def test_a_trigger_that_is_like_them_anyway_supports_nothing(clean) -> None:
    found = judge(
        "adversarial_resembles_trigger",
        attacked("badnet", 0.5, 0.4),
        attacked("unpoisoned", *clean),
    )
    assert found.verdict == "not supported"


def test_a_poisoned_and_an_unpoisoned_model_must_be_of_one_kind() -> None:
    apart = attacked("unpoisoned", 0.1, 0.1, objective="mmcl_ssl")
    claim = "adversarial_resembles_trigger"
    assert judge(claim, attacked("badnet", 0.5, 0.4), apart).verdict == "not tested here"
    assert judge(claim, seeds(), seeds(attack="unpoisoned")).verdict == "not tested here"


# PUD identifies poison.


def scores(auroc, precision, method="pud"):
    return pd.DataFrame(
        {
            "corpus": "scenes",
            "attack": "badnet",
            "objective": "mmcl",
            "seed": range(3),
            "method": method,
            "auroc": [auroc + shift for shift in JITTER],
            "precision_at_budget": None if precision is None else [precision + s for s in JITTER],
            "n_poisoned": 400,
            "n_pairs": 8000,
        }
    )


@pytest.mark.parametrize(
    ("auroc", "precision", "verdict"),
    [
        (0.9, 0.6, "supported"),
        (0.9, None, "supported"),  # no budget was asked for
        (0.501, 0.6, "not supported"),
        (0.9, 0.051, "not supported"),  # 5 % of the pairs are poison
    ],
)
def test_pud_is_compared_with_chance(auroc, precision, verdict) -> None:
    found = judge("pud_identifies_poison", seeds(), detectors=scores(auroc, precision))
    assert found.verdict == verdict
    if precision is not None:
        assert list(means(found).values())[1] == pytest.approx(precision - 0.05, abs=0.001)


def test_another_detector_does_not_test_pud() -> None:
    found = judge("pud_identifies_poison", seeds(), detectors=scores(0.9, 0.6, "ubt"))
    assert found.verdict == "not tested here"


# PUD beats other defenses.


def mended(method, asr, robust, **given):
    rows = seeds(method, asr=asr, **given)
    return [row | {"robust_accuracy_eps2": robust + JITTER[row["seed"]] ** 2} for row in rows]


def roclip(asr, robust):
    rows = mended("none", asr, robust, objective="roclip")
    return [row | {"needs": "pretraining"} for row in rows]


def test_pud_is_compared_with_the_best_in_each() -> None:
    found = judge(
        "pud_beats_repairs",
        mended("pud", 0.05, 0.5),
        mended("ft", 0.3, 0.1),
        mended("par", 0.4, 0.4),
        mended("abl", 0.0, 0.9),  # no repair from trusted pairs
    )
    assert found.verdict == "supported"
    assert means(found) == pytest.approx(
        {
            "attack_success_rate against ft": 0.25,
            "robust_accuracy_eps2 against par": 0.1,
            "CA less that of ft": 0.0,
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("other", [("ft", 0.01, 0.1), ("cleanclip@lr1", 0.3, 0.6)])
def test_pud_must_be_better_in_both(other) -> None:
    found = judge("pud_beats_repairs", mended("pud", 0.05, 0.5), mended(*other))
    assert found.verdict == "not supported"


def test_a_filter_in_training_stands_beside_pud_on_what_was_trained_without_it() -> None:
    ours = mended("pud", 0.05, 0.5)
    found = judge("pud_beats_filters", ours, roclip(0.3, 0.2))
    assert found.verdict == "supported"
    assert "against `roclip`" in found.because
    assert judge("pud_beats_filters", ours, roclip(0.0, 0.2)).verdict == "not supported"


def test_filters_in_training_are_met_on_their_victims_and_repairs_on_all() -> None:
    ours = [*mended("pud", 0.05, 0.5), *mended("pud", 0.1, 0.4, objective="mmcl_ssl")]
    abl = [*mended("abl", 0.3, 0.2), *mended("abl", 0.3, 0.2, objective="mmcl_ssl")]
    found = judge("pud_beats_filters", ours, abl, roclip(0.3, 0.2))
    assert found.verdict == "supported"
    counted = {number.name: number.n for number in found.numbers}
    assert counted["attack_success_rate against abl"] == 6
    assert counted["attack_success_rate against roclip"] == 3
    assert judge("pud_beats_filters", ours, abl, roclip(0.0, 0.2)).verdict == "not supported"
    assert judge("pud_beats_filters", ours, abl[:3], roclip(0.3, 0.2)).verdict == "supported"


def test_pud_is_not_judged_by_robustness_alone() -> None:
    unattacked = seeds("pud", asr=0.05, attack="blended")
    ours, par = [*mended("pud", 0.05, 0.5), *unattacked], mended("par", 0.4, 0.4)
    assert judge("pud_beats_repairs", ours, par).verdict == "not tested here"


def test_a_defense_that_was_not_measured_on_all_of_pud_is_left_out() -> None:
    ours = mended("pud", 0.05, 0.5)
    found = judge("pud_beats_repairs", ours, mended("ft", 0.3, 0.1), mended("par", 0.0, 0.9)[:2])
    assert found.verdict == "supported"
    assert found.because.endswith("Left out, for lack of some of these victims: `par`.")


def test_repairs_that_need_the_training_pairs_are_filters() -> None:
    ours, abl = mended("pud", 0.05, 0.5), mended("abl", 0.3, 0.2)
    found = judge("pud_beats_filters", ours, abl, mended("ft", 0.0, 0.9))
    assert found.verdict == "supported"
    assert found.numbers[0].name == "attack_success_rate against abl"


@pytest.mark.parametrize(
    "others",
    [
        [mended("ft", 0.3, 0.1)],
        [mended("ubt@oracle", 0.3, 0.1, control=True, needs="train")],
        [mended("abl", 0.3, 0.1, corpus="photos")],
        [seeds("abl", asr=0.3)],  # nobody attacked it
    ],
)
def test_pud_beats_no_filter_where_there_is_none(others) -> None:
    assert (
        judge("pud_beats_filters", mended("pud", 0.05, 0.5), *others).verdict == "not tested here"
    )


# BadCLIP outlives repairs.


def after(repair, badclip, badnet):
    return seeds(repair, 0.8, badclip, attack="badclip") + seeds(repair, 0.8, badnet)


PLANTED = [*seeds(attack="badclip"), *seeds()]


def test_a_backdoor_that_both_repairs_leave_outlives_them() -> None:
    parts = [after("ft", 0.7, 0.1), after("cleanclip", 0.6, 0.15)]
    found = judge("badclip_outlives_repairs", PLANTED, *parts)
    assert found.verdict == "supported"
    expected = {
        "ASR of badclip after ft": 0.7,
        "ASR of badnet after ft": 0.1,
        "ASR of badclip after cleanclip": 0.6,
        "ASR of badnet after cleanclip": 0.15,
    }
    assert means(found) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("left", [(0.1, 0.1), (0.4, 0.1), (0.9, 0.6)])
def test_one_repair_that_removes_both_or_neither_is_enough_against_it(left) -> None:
    parts = [after("ft", *left), after("cleanclip", 0.6, 0.1)]
    assert judge("badclip_outlives_repairs", PLANTED, *parts).verdict == "not supported"


@pytest.mark.parametrize(
    "rows",
    [
        [PLANTED, after("ft", 0.7, 0.1)],
        [seeds(), after("ft", 0.7, 0.1), after("cleanclip", 0.6, 0.2)],
        [
            seeds(asr=0.2, attack="badclip"),
            seeds(),
            after("ft", 0.1, 0.1),
            after("cleanclip", 0.1, 0.2),
        ],
    ],
)
def test_both_must_be_planted_and_met_by_both_repairs(rows) -> None:
    assert judge("badclip_outlives_repairs", *rows).verdict == "not tested here"
