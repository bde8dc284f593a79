"""Each claim's check on tables written by hand: the claim holds, fails, and cannot be tested."""

from functools import partial

import pandas as pd
import pytest

from clipmend.engine.cell import Place
from clipmend.report.claims.check import Tables
from clipmend.report.claims.cleanings import Cleaning
from clipmend.report.contents import claims
from clipmend.report.scale import Scale
from tests.report import rows

CHECKS = {module.CLAIM.id: module.check for module in claims().values()}
NO_DETECTORS = pd.DataFrame(columns=["corpus", "attack", "objective", "seed", "method", "auroc"])
# Victims differ a little, so that intervals have a width.
JITTER = (0.0, 0.004, -0.003)
NEEDS = {"abl": "train", "ubt": "train", "pud": "train"}


def cell(method="none", ca=0.8, asr=0.9, seed=0, **changed):
    needs = "" if method == "none" else NEEDS.get(method, "trusted")
    return rows.cell(method, ca + JITTER[seed], asr, seed, **{"needs": needs, **changed})


def seeds(method="none", ca=0.8, asr=0.9, **changed):
    return [cell(method, ca, asr + JITTER[seed], seed, **changed) for seed in range(3)]


def check(claim, *rows, detectors=NO_DETECTORS, sizes=None):
    cells = pd.DataFrame([row for part in rows for row in part])
    scales = {name: Scale(size, None, {}, None, None, None) for name, size in (sizes or {}).items()}
    return CHECKS[claim](Tables(cells, detectors, [], scales, 0.95))


check_ubt = partial(check, "ubt_lowest_asr")
check_ssl_survives = partial(check, "ssl_survives_cleanclip")
check_hardens = partial(check, "accuracy_hardens_removal")
check_few_poisons = partial(check, "few_poisons_defeat_cleanclip")
check_resembles = partial(check, "adversarial_resembles_trigger")
check_identifies = partial(check, "pud_identifies_poison")
check_beats_repairs = partial(check, "pud_beats_repairs")
check_beats_filters = partial(check, "pud_beats_filters")
check_outlives = partial(check, "badclip_outlives_repairs")
check_density = partial(check, "density_degrades_on_badclip")
check_structured = partial(check, "par_removes_structured_triggers")
check_blind = partial(check, "cleanclip_blinds_to_triggered_images")
check_inverts = partial(check, "invertune_removes_backdoors")


def means(outcome):
    return {number.name: number.mean for number in outcome.numbers}


# UBT has the lowest ASR.


def test_ubt_is_ahead_in_asr_by_the_margin_and_in_ca() -> None:
    outcome = check_ubt(seeds(), seeds("ft", 0.75, 0.3), seeds("ubt", 0.79, 0.01))
    assert outcome.status == "supported"
    assert means(outcome) == pytest.approx(
        {"ASR of ft less that of ubt": 0.29, "CA of ubt less that of ft": 0.04}
    )
    assert "points below it" in outcome.because


def test_a_repair_that_lacks_a_victim_is_left_out_and_named() -> None:
    ours = [*seeds("ubt", 0.79, 0.01), *seeds("ubt", 0.79, 0.01, attack="blended")]
    everywhere = [*seeds("ft", 0.75, 0.3), *seeds("ft", 0.75, 0.3, attack="blended")]
    outcome = check_ubt(ours, everywhere, seeds("par", 0.8, 0.0))
    assert outcome.status == "supported"
    assert outcome.because.startswith("The best other repair is `ft`")
    assert outcome.because.endswith("Left out, for lack of some of these victims: `par`.")
    alone = check_ubt(ours, seeds("par", 0.8, 0.0))
    assert alone.status == "not tested here"
    assert "`par`" in alone.because


# CleanCLIP cleans victims of MMCL and not those of MMCL + SSL.

CLEANED = [*seeds(), *seeds("cleanclip", 0.78, 0.02)]
TRIES = ("cleanclip", "cleanclip@lr1", "cleanclip@lr2", "cleanclip@hard")
FIVE = (*TRIES, "cleanclip@lr3")


def tried(*reached, objective="mmcl", names=TRIES, start=0.9):
    """Return victims and the rates after their cleanings; the rest leaves the backdoor."""
    each = [*reached, *[(0.79, 0.6)] * (len(names) - len(reached))]
    rows = [
        seeds(name, *rates, objective=objective) for name, rates in zip(names, each, strict=True)
    ]
    return [*seeds(asr=start, objective=objective), *(row for part in rows for row in part)]


@pytest.mark.parametrize(
    ("best", "lost", "said"),
    [
        ([(0.4, 0.02)], 0.5, "cleanings of each: 4"),
        ([], 1, "in 0 of the `mmcl` and 3 of the `mmcl_ssl` ones"),  # all of the CA is lost
    ],
)
def test_a_backdoor_survives_if_every_tuning_is_costly(best, lost, said) -> None:
    outcome = check_ssl_survives(tried((0.78, 0.02)), tried(*best, objective="mmcl_ssl"))
    assert outcome.status == "supported"
    cost = means(outcome)["share of CA lost by cleaning mmcl_ssl"]
    assert cost == (lost if lost == 1 else pytest.approx(lost, abs=0.01))
    assert said in outcome.because


def test_a_cleaning_of_one_objective_alone_does_not_count() -> None:
    plain = tried((0.6, 0.02), (0.7, 0.6), (0.7, 0.6), (0.7, 0.6), (0.78, 0.02), names=FIVE)
    ssl = tried((0.4, 0.02), objective="mmcl_ssl")
    outcome = check_ssl_survives(plain, ssl)
    assert "cleanings of each: 4" in outcome.because
    assert means(outcome)["share of CA lost by cleaning mmcl"] == pytest.approx(0.25, abs=0.01)


# A higher start CA makes removal harder.

SIZES = {"scenes": 8_000, "scenes@large": 64_000}


def large(ca, cleaned):
    start = seeds(ca=ca, corpus="scenes@large")
    return [*start, *seeds("cleanclip", cleaned, 0.01, corpus="scenes@large")]


@pytest.mark.parametrize(
    ("ca", "cleaned", "status", "more"),
    [
        (0.9, 0.5, "supported", (1 - 0.5 / 0.9) - (1 - 0.78 / 0.8)),
        (0.7, 0.695, "supported", (1 - 0.78 / 0.8) - (1 - 0.695 / 0.7)),  # higher, not larger
        (0.9, 0.89, "not supported", (1 - 0.89 / 0.9) - (1 - 0.78 / 0.8)),
    ],
)
def test_the_corpus_that_starts_higher_must_lose_more(ca, cleaned, status, more) -> None:
    outcome = check_hardens(CLEANED, large(ca, cleaned), sizes=SIZES)
    assert outcome.status == status
    assert means(outcome)["CA of the start, higher less lower"] == pytest.approx(0.1)
    assert list(means(outcome).values())[1] == pytest.approx(more, abs=0.002)


def test_a_cleaning_of_one_corpus_alone_does_not_count() -> None:
    alone = seeds("cleanclip@lr1", 0.9, 0.01, corpus="scenes@large")
    outcome = check_hardens(CLEANED, large(0.9, 0.5), alone, sizes=SIZES)
    assert outcome.status == "supported"
    assert outcome == check_hardens(CLEANED, large(0.9, 0.5), sizes=SIZES)


@pytest.mark.parametrize("sizes", [{}, {"scenes": 8_000, "scenes@large": 8_000}])
def test_corpora_of_one_size_test_nothing(sizes) -> None:
    outcome = check_hardens(CLEANED, large(0.9, 0.5), sizes=sizes)
    assert outcome.status == "not tested here"


# At the best epoch, MMCL + SSL costs more.


def swept(objective, *points, seed=0, asr=0.95, changes=(), **settings):
    victim = Place("pretrain", "scenes", "badnet", objective, seed)
    start = pd.Series({"clean_accuracy": 0.9, "attack_success_rate": asr})
    points = pd.DataFrame(points, columns=["clean_accuracy", "attack_success_rate"])
    return Cleaning(victim, "cleanclip@a", settings, changes, start, points)


def check_epochs(*cleanings):
    return CHECKS["ssl_survives_every_epoch"](
        Tables(pd.DataFrame(), NO_DETECTORS, cleanings, {}, 0.95)
    )


@pytest.mark.parametrize(
    ("best", "status"),
    [((0.8, 0.02), "supported"), ((0.88, 0.02), "not supported"), ((0.9, 0.5), "supported")],
)
def test_the_best_epoch_of_any_rate_decides(best, status) -> None:
    plain = [swept("mmcl", (0.89, 0.04), (0.7, 0.0)), swept("mmcl", (0.9, 0.05))]
    outcome = check_epochs(*plain, swept("mmcl_ssl", best))
    assert outcome.status == status
    assert means(outcome)["CA lost by cleaning mmcl"] == pytest.approx(0.01)
    assert ("1 of the `mmcl_ssl` ones" in outcome.because) is (best[1] > 0.05)


def test_other_losses_and_changed_settings_do_not_count() -> None:
    plain, ssl = swept("mmcl", (0.89, 0.02)), swept("mmcl_ssl", (0.8, 0.02))
    other = swept("mmcl_ssl", (0.9, 0.0), ssl_weight=0.0)
    changed = swept("mmcl_ssl", (0.9, 0.0), changes=(("weight_decay", 10.0),))
    assert check_epochs(plain, ssl, other, changed) == check_epochs(plain, ssl)
    assert check_epochs(plain, other, changed).status == "not tested here"


@pytest.mark.parametrize("weak", ["mmcl", "mmcl_ssl"])
def test_a_weak_backdoor_under_either_objective_tests_nothing(weak) -> None:
    pair = [
        swept(name, (0.8, 0.02), asr=0.3 if name == weak else 0.95) for name in ("mmcl", "mmcl_ssl")
    ]
    assert check_epochs(*pair).status == "not tested here"


def test_a_victim_of_mmcl_that_no_epoch_cleans_supports_nothing() -> None:
    pair = [swept("mmcl", (0.9, 0.5)), swept("mmcl_ssl", (0.8, 0.02))]
    assert check_epochs(*pair).status == "not supported"


def test_over_seeds_the_whole_interval_must_be_above_zero() -> None:
    lost = {("mmcl", 0): 0.01, ("mmcl", 1): 0.01, ("mmcl_ssl", 0): 0.30, ("mmcl_ssl", 1): 0.02}
    outcome = check_epochs(*(swept(n, (0.9 - less, 0.02), seed=s) for (n, s), less in lost.items()))
    assert outcome.status == "not supported"
    assert "+15.0 (-" in outcome.because


# A few poisons defeat CleanCLIP.


def test_poisons_among_the_trusted_pairs_keep_the_backdoor() -> None:
    outcome = check_few_poisons(CLEANED, seeds("cleanclip@poisons5", asr=0.5))
    assert outcome.status == "supported"
    assert means(outcome) == pytest.approx(
        {"ASR with 5 poisons": 0.5, "ASR with 5 poisons less that with none": 0.48}, abs=0.001
    )


def test_the_largest_number_of_poisons_up_to_the_limit_decides() -> None:
    tried = {5: 0.03, 25: 0.04, 100: 0.9}
    rows = [seeds(f"cleanclip@poisons{count}", asr=asr) for count, asr in tried.items()]
    outcome = check_few_poisons(CLEANED, *rows)
    assert outcome.status == "not supported"
    assert outcome.because.startswith("With 25 poisons")
    assert len(outcome.numbers) == 4


# Adversarial examples resemble triggered images.


def attacked(attack, cosine, rate, **changed):
    rates = {f"adversarial_trigger_cosine_eps{eps}": cosine for eps in (2, 4)}
    rates |= {f"adversarial_target_rate_eps{eps}": rate for eps in (2, 4)}
    asr = 0.0 if attack == "unpoisoned" else 0.9
    rows = seeds(asr=asr, attack=attack, trigger="badnet", **changed)
    return [row | {k: v + JITTER[row["seed"]] for k, v in rates.items()} for row in rows]


def test_the_resemblance_in_an_unpoisoned_model_is_subtracted() -> None:
    outcome = check_resembles(attacked("badnet", 0.5, 0.4), attacked("unpoisoned", 0.1, 0.1))
    assert outcome.status == "supported"
    expected = {
        f"adversarial_{metric}_eps{eps}, poisoned less unpoisoned": mean
        for metric, mean in (("trigger_cosine", 0.4), ("target_rate", 0.3))
        for eps in (2, 4)
    }
    assert means(outcome) == pytest.approx(expected)


# PUD identifies poison.


def scores(auroc, precision, method="pud"):
    at_budget = None if precision is None else [precision + shift for shift in JITTER]
    table = pd.DataFrame({"auroc": [auroc + shift for shift in JITTER], "seed": range(3)})
    table = table.assign(corpus="scenes", attack="badnet", objective="mmcl", method=method)
    return table.assign(precision_at_budget=at_budget, n_poisoned=400, n_pairs=8000)


@pytest.mark.parametrize(
    ("auroc", "precision", "detector", "status"),
    [
        (0.9, 0.6, "pud", "supported"),
        (0.9, None, "pud", "supported"),  # without a budget
        (0.501, 0.6, "pud", "not supported"),
        (0.9, 0.051, "pud", "not supported"),  # 5 % of the pairs are poison
        (0.9, 0.6, "ubt", "not tested here"),
    ],
)
def test_the_scores_of_pud_are_compared_with_chance(auroc, precision, detector, status) -> None:
    table = scores(auroc, precision, detector)
    outcome = check_identifies(seeds(), detectors=table)
    assert outcome.status == status
    if len(outcome.numbers) > 1:
        assert outcome.numbers[1].mean == pytest.approx(precision - 0.05, abs=0.001)


# PUD beats other defenses.


def repaired(method, asr, robust, **changed):
    rows = seeds(method, asr=asr, **changed)
    return [row | {"robust_accuracy_eps2": robust + JITTER[row["seed"]] ** 2} for row in rows]


def roclip(asr, robust):
    rows = repaired("none", asr, robust, objective="roclip")
    return [row | {"needs": "pretraining"} for row in rows]


def test_pud_is_compared_with_the_best_repair_in_each_metric() -> None:
    abl = repaired("abl", 0.0, 0.9)  # trains on the training pairs, so the claim leaves it out
    others = repaired("ft", 0.3, 0.1), repaired("par", 0.4, 0.4)
    outcome = check_beats_repairs(repaired("pud", 0.05, 0.5), *others, abl)
    assert outcome.status == "supported"
    expected = {"attack_success_rate against ft": 0.25, "robust_accuracy_eps2 against par": 0.1}
    assert means(outcome) == pytest.approx(expected | {"CA less that of ft": 0.0}, abs=1e-6)


def test_an_objective_that_filters_is_compared_with_pud_on_the_mmcl_victim() -> None:
    ours = repaired("pud", 0.05, 0.5)
    outcome = check_beats_filters(ours, roclip(0.3, 0.2))
    assert outcome.status == "supported"
    assert "against `roclip`" in outcome.because
    assert check_beats_filters(ours, roclip(0.0, 0.2)).status == "not supported"


def test_objectives_are_compared_on_mmcl_victims_and_repairs_on_all() -> None:
    ours = [*repaired("pud", 0.05, 0.5), *repaired("pud", 0.1, 0.4, objective="mmcl_ssl")]
    abl = [*repaired("abl", 0.3, 0.2), *repaired("abl", 0.3, 0.2, objective="mmcl_ssl")]
    ft = [*repaired("ft", 0.0, 0.9), *repaired("ft", 0.0, 0.9, objective="mmcl_ssl")]  # no filter
    outcome = check_beats_filters(ours, abl, ft, roclip(0.3, 0.2))
    assert outcome.status == "supported"
    counted = {number.name: number.n for number in outcome.numbers}
    assert counted["attack_success_rate against abl"] == 6
    assert counted["attack_success_rate against roclip"] == 3
    assert check_beats_filters(ours, abl, roclip(0.0, 0.2)).status == "not supported"
    assert check_beats_filters(ours, abl[:3], roclip(0.3, 0.2)).status == "supported"


def test_a_defense_not_measured_on_all_victims_of_pud_is_left_out() -> None:
    ours = repaired("pud", 0.05, 0.5)
    outcome = check_beats_repairs(ours, repaired("ft", 0.3, 0.1), repaired("par", 0.0, 0.9)[:2])
    assert outcome.status == "supported"
    assert outcome.because.endswith("Left out, for lack of some of these victims: `par`.")


# BadCLIP outlives repairs.


def after(repair, badclip, badnet):
    return seeds(repair, 0.8, badclip, attack="badclip") + seeds(repair, 0.8, badnet)


BACKDOORED = [*seeds(attack="badclip"), *seeds()]


def test_badclip_outlives_two_repairs_that_remove_badnet() -> None:
    parts = [after("ft", 0.7, 0.1), after("cleanclip", 0.6, 0.15)]
    outcome = check_outlives(BACKDOORED, *parts)
    assert outcome.status == "supported"
    ft = {"ASR of badclip after ft": 0.7, "ASR of badnet after ft": 0.1}
    cleanclip = {"ASR of badclip after cleanclip": 0.6, "ASR of badnet after cleanclip": 0.15}
    assert means(outcome) == pytest.approx(ft | cleanclip, abs=0.001)


# Detectors by density are worse on BadCLIP.


def scored(attack, precision, method="dao", n_poisoned=240, seeds=3):
    names = {"corpus": "scenes", "attack": attack, "objective": "mmcl", "method": method}
    counted = {"n_poisoned": n_poisoned}
    return [
        names | counted | {"seed": seed, "average_precision": precision + JITTER[seed]}
        for seed in range(seeds)
    ]


def found(badnet, badclip, **changed):
    return pd.DataFrame([*scored("badnet", badnet), *scored("badclip", badclip, **changed)])


def test_density_is_worse_on_badclip_if_average_precision_is_lower_on_the_same_seeds() -> None:
    others = pd.DataFrame([*scored("badclip", 1.0, "ubt"), *scored("badnet", 0.0, "ubt")])
    table = pd.concat([found(0.9, 0.6), others])
    outcome = check_density(BACKDOORED, detectors=table)
    assert outcome.status == "supported"
    assert list(means(outcome).values()) == pytest.approx([0.3])
    assert check_density(BACKDOORED, detectors=found(0.6, 0.9)).status == "not supported"
    for untested in (found(0.9, 0.6, n_poisoned=24), pd.DataFrame(scored("badnet", 0.9))):
        assert check_density(BACKDOORED, detectors=untested).status == "not tested here"
    assert check_density(WEAK, detectors=found(0.9, 0.6)).status == "not tested here"


# PAR against CleanCLIP on structured triggers.


def striped(method, asr, **changed):
    return seeds(method, asr=asr, attack="badnet@stripes", **changed)


def test_par_is_ahead_on_structured_triggers_alone() -> None:
    start = striped("none", 0.9)
    plain = [*seeds(), *seeds("par", asr=0.9), *seeds("cleanclip", asr=0.0)]  # no structure
    outcome = check_structured(start, plain, striped("par", 0.1), striped("cleanclip", 0.6))
    assert outcome.status == "supported"
    assert list(means(outcome).values()) == pytest.approx([0.5])


# Triggered images after CleanCLIP.


def seen(method, ca, triggered, **changed):
    return seeds(method, ca=ca, asr=0.02, triggered_accuracy=triggered, **changed)


def test_triggered_images_stay_unseen_if_their_accuracy_is_far_below_the_ca() -> None:
    outcome = check_blind(seeds(), seen("cleanclip", 0.8, 0.5), seen("par", 0.8, 0.79))
    assert outcome.status == "supported"
    assert list(means(outcome).values()) == pytest.approx([0.3], abs=0.001)


# InverTune.


def test_invertune_holds_if_it_leaves_little_asr_for_little_ca() -> None:
    outcome = check_inverts(seeds(), seeds("invertune", 0.79, 0.003))
    assert outcome.status == "supported"
    assert means(outcome)["CA lost"] == pytest.approx(0.01)
    assert means(outcome)["share of the ASR removed"] == pytest.approx(0.997, abs=0.001)


# What leaves a claim unsupported or untested.

UBT, PUD = seeds("ubt", 0.79, 0.01), repaired("pud", 0.05, 0.5)
ATTACKED = attacked("badnet", 0.5, 0.4)
MMCL = tried((0.78, 0.02))
WEAK = [*seeds(asr=0.2, attack="badclip"), *seeds()]
UNEVEN = [cell("ft", 0.75, asr, seed) for seed, asr in enumerate((0.1, 0.3, 0.9))]
POISONS = [f"cleanclip@poisons{count}" for count in range(4)]
ORACLE = repaired("ubt@oracle", 0.3, 0.1, control=True, needs="train")


def ssl(*reached, **changed):
    return tried(*reached, objective="mmcl_ssl", **changed)


def both(plain, ssl_tries):
    return [tried((0.78, 0.02), names=FIVE[:plain]), ssl(names=FIVE[:ssl_tries])]


UNSUPPORTED = {
    "ubt has no room for 19 points": (check_ubt, UBT, seeds("ft", 0.75, 0.1)),
    "ubt has a lower CA": (check_ubt, UBT, seeds("ft", 0.80, 0.4)),
    "a second repair is better than ubt": (
        *(check_ubt, UBT, seeds("ft", 0.75, 0.4), seeds("cleanclip", 0.7, 0.02)),
    ),
    "the interval over seeds reaches below the margin": (check_ubt, UBT, UNEVEN),
    "one tuning is cheap": (check_ssl_survives, MMCL, ssl((0.78, 0.02))),
    "one tuning costs little": (check_ssl_survives, MMCL, ssl((0.73, 0.0))),
    "the backdoors of both objectives survive": (check_ssl_survives, tried(), ssl()),
    "the cosine is as high in a clean model": (
        *(check_resembles, ATTACKED, attacked("unpoisoned", 0.5, 0.1)),
    ),
    "the target is as frequent in a clean model": (
        *(check_resembles, ATTACKED, attacked("unpoisoned", 0.1, 0.4)),
    ),
    "pud has a higher ASR": (check_beats_repairs, PUD, repaired("ft", 0.01, 0.1)),
    "pud is less robust": (check_beats_repairs, PUD, repaired("cleanclip@lr1", 0.3, 0.6)),
    **{
        f"ft leaves {left} of badclip and badnet": (
            *(check_outlives, BACKDOORED, after("ft", *left), after("cleanclip", 0.6, 0.1)),
        )
        for left in [(0.1, 0.1), (0.4, 0.1), (0.9, 0.6)]
    },
    "par leaves nearly as much": (
        *(check_structured, striped("none", 0.9), striped("par", 0.5), striped("cleanclip", 0.6)),
    ),
    "triggered images are seen": (check_blind, seeds(), seen("cleanclip", 0.8, 0.75)),
    "invertune leaves a tenth": (check_inverts, seeds(), seeds("invertune", 0.79, 0.1)),
    "invertune costs too much": (check_inverts, seeds(), seeds("invertune", 0.7, 0.003)),
}
UNTESTED = {
    "controls, variants of ubt and poisoned repairs do not count as rivals": (
        *(check_ubt, UBT, seeds("ubt@oracle", 0.8, 0.0, control=True)),
        *(seeds("ubt@early", 0.7, 0.9), seeds("cleanclip@poisons5", 0.7, 0.9)),
    ),
    "mmcl_ssl has no victim": (check_ssl_survives, MMCL, []),
    "mmcl_ssl was not cleaned": (check_ssl_survives, MMCL, seeds(objective="mmcl_ssl")),
    "mmcl_ssl has no backdoor": (check_ssl_survives, MMCL, ssl((0.7, 0.0), start=0.3)),
    "all cleanings had poisons": (check_ssl_survives, MMCL, ssl(names=POISONS)),
    **{
        f"both objectives had {counts} cleanings": (check_ssl_survives, *both(*counts))
        for counts in [(1, 1), (3, 3), (3, 5), (5, 3)]
    },
    "cleanclip fails without poisons": (
        *(check_few_poisons, seeds(), seeds("cleanclip", asr=0.5)),
        seeds("cleanclip@poisons5", asr=0.9),
    ),
    "cleanclip had no poisons": (check_few_poisons, CLEANED),
    "the unpoisoned victim has another objective": (
        *(check_resembles, ATTACKED, attacked("unpoisoned", 0.1, 0.1, objective="mmcl_ssl")),
    ),
    "no victim was attacked": (check_resembles, seeds(), seeds(attack="unpoisoned")),
    "pud has robust accuracy on some victims alone": (
        *(check_beats_repairs, PUD, seeds("pud", asr=0.05, attack="blended")),
        repaired("par", 0.4, 0.4),
    ),
    "ft is no filter": (check_beats_filters, PUD, repaired("ft", 0.3, 0.1)),
    "a control is no filter": (check_beats_filters, PUD, ORACLE),
    "abl filtered another corpus": (
        *(check_beats_filters, PUD, repaired("abl", 0.3, 0.1, corpus="photos")),
    ),
    "abl was not attacked": (check_beats_filters, PUD, seeds("abl", asr=0.3)),
    "cleanclip was not run": (check_outlives, BACKDOORED, after("ft", 0.7, 0.1)),
    "badclip was not run": (
        *(check_outlives, seeds(), after("ft", 0.7, 0.1), after("cleanclip", 0.6, 0.2)),
    ),
    "badclip has no backdoor": (
        *(check_outlives, WEAK, after("ft", 0.1, 0.1), after("cleanclip", 0.1, 0.2)),
    ),
    "no structured trigger was there": (
        *(check_structured, seeds(), seeds("par", asr=0.0), seeds("cleanclip", asr=0.5)),
    ),
    "the structured trigger has no backdoor": (
        *(check_structured, striped("none", 0.3), striped("par", 0.0), striped("cleanclip", 0.3)),
    ),
    "triggered accuracy was not measured": (check_blind, seeds(), seeds("cleanclip", asr=0.0)),
    "no victim of cleanclip was backdoored": (
        *(check_blind, seeds(asr=0.3), seen("cleanclip", 0.8, 0.5)),
    ),
    "invertune was not run": (check_inverts, seeds(), seeds("par", asr=0.0)),
}


@pytest.mark.parametrize("why", UNSUPPORTED)
def test_a_claim_is_not_supported_if(why) -> None:
    checked, *parts = UNSUPPORTED[why]
    assert checked(*parts).status == "not supported"


@pytest.mark.parametrize("why", UNTESTED)
def test_a_claim_is_not_tested_if(why) -> None:
    checked, *parts = UNTESTED[why]
    assert checked(*parts).status == "not tested here"
