"""Defenses side by side, and accuracy under attack: which rows, and over which victims."""

import pandas as pd

from clipmend.report.cells import at_epsilons
from clipmend.report.results import Results
from clipmend.report.tables import defenses, robustness
from tests.report.rows import cell, texts


def tables(module, cells):
    return module.section(Results({}, joined={"cells.csv": pd.DataFrame(cells)})).tables


def test_repairs_and_objectives_that_defend_stand_in_one_rank() -> None:
    cells = [
        cell(),
        cell("ft", 0.75, 0.3, needs="trusted"),
        cell("ft", 0.70, 0.1, needs="trusted", objective="mmcl_ssl"),
        cell("ubt", 0.79, 0.02, needs="train+early"),
        cell("ubt@oracle", 0.8, 0.0, needs="train", control=True),
        cell(ca=0.6, asr=0.2, needs="pretraining", objective="roclip"),
        cell("ft", 0.6, 0.0, needs="trusted", objective="roclip"),
        cell(attack="unpoisoned", trigger="badnet"),
    ]
    (printed,) = tables(defenses, cells)
    assert printed.title == "scenes, badnet"
    assert printed.header == ("defense", "objective", "needs", "ASR", "CA", "seeds")
    assert texts(printed) == [
        ["ubt", "mmcl", "train, early", "2.0", "79.0", "1"],
        ["ft", "mmcl_ssl", "trusted", "10.0", "70.0", "1"],
        ["roclip", "", "pretraining", "20.0", "60.0", "1"],
        ["ft", "mmcl", "trusted", "30.0", "75.0", "1"],
        ["none", "mmcl", "nothing", "90.0", "80.0", "1"],
    ]


def test_what_prints_the_same_asr_is_ranked_by_accuracy() -> None:
    cells = [cell("ft", 0.7, 0.10001), cell("par", 0.8, 0.10002)]
    (printed,) = tables(defenses, cells)
    assert [row[0] for row in texts(printed)] == ["par", "ft"]


def test_seeds_have_an_interval() -> None:
    cells = [cell("ft", ca, 0.5, seed=seed) for seed, ca in enumerate((0.7, 0.8, 0.9))]
    (printed,) = tables(defenses, cells)
    # Mean 0.8, standard error 0.1 / sqrt(3), t of 2 degrees 4.302653, clipped at 100.
    assert texts(printed)[0][3:] == ["50.0 (50.0 to 50.0)", "80.0 (55.2 to 100.0)", "3"]


def test_there_is_a_table_for_each_corpus_attack_and_trigger() -> None:
    many = [
        cell(name, 0.8, asr, attack="multi", trigger=f"multi.{trigger}")
        for name, asr in (("none", 0.9), ("ft", 0.1))
        for trigger in ("sig", "badnet")
    ]
    shown = tables(defenses, [*many, cell(), cell(corpus="photos")])
    multi = [f"scenes, multi under multi.{trigger}" for trigger in ("badnet", "sig")]
    assert [one.title for one in shown] == ["photos, badnet", "scenes, badnet", *multi]
    assert [row[0] for row in texts(shown[2])] == ["ft", "none"]


def attacked(method="none", robust=0.3, **given):
    metrics = {"robust_accuracy_eps4": robust / 2, "robust_accuracy_eps2": robust}
    ends = {f"{name}_{end}": value for name, value in metrics.items() for end in ("low", "high")}
    return cell(method, **given) | metrics | ends


def test_poisoned_and_unpoisoned_victims_are_told_apart_and_counted_once() -> None:
    cells = [
        attacked(robust=0.2, ca=0.7, asr=0.8),
        attacked(robust=0.4, ca=0.9, asr=1.0, attack="blended"),
        *(attacked(robust=0.5, attack="unpoisoned", trigger=trigger) for trigger in "ab"),
        attacked("ubt@oracle", control=True),
    ]
    (printed,) = tables(robustness, cells)
    assert printed.title == "scenes, mmcl: mean over victims (lowest to highest)"
    robust = ("robust 2/255", "robust 4/255")
    poisoned = ("poisoned victims", "CA", "ASR", *robust)
    assert printed.header == ("method", *poisoned, "unpoisoned victims", "CA", *robust)
    none, oracle = texts(printed)
    assert none[:4] == ["none", "2", "80.0 (70.0 to 90.0)", "90.0 (80.0 to 100.0)"]
    assert none[4:6] == ["30.0 (20.0 to 40.0)", "15.0 (10.0 to 20.0)"]
    assert none[6:] == ["1", "80.0", "50.0", "25.0"]
    assert oracle == ["ubt@oracle†", "1", "80.0", "90.0", "30.0", "15.0", "0", "", "", ""]


def test_a_victim_of_several_triggers_counts_once_under_attack() -> None:
    many = [
        attacked(robust=robust, ca=0.7, asr=asr, attack="multi", trigger=f"multi.{asr}")
        for robust, asr in ((0.2, 0.5), (0.4, 0.9))
    ]
    (printed,) = tables(robustness, [*many, attacked(ca=0.9, asr=0.1)])
    (none,) = texts(printed)
    assert none[1:4] == ["2", "80.0 (70.0 to 90.0)", "40.0 (10.0 to 70.0)"]
    assert none[4] == "30.0 (30.0 to 30.0)"


def test_without_cells_or_attacks_there_is_no_table() -> None:
    assert tables(defenses, pd.DataFrame(columns=list(cell()))) == []
    assert tables(robustness, [cell()]) == []
    assert tables(robustness, [attacked(robust=float("nan"))]) == []


def test_epsilons_are_sorted_as_numbers() -> None:
    cells = pd.DataFrame([attacked()]).assign(robust_accuracy_eps16=0.1)
    assert list(at_epsilons(cells, "robust_accuracy")) == [2, 4, 16]
