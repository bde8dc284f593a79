"""detectors.csv against values worked out by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.report.detection import ranking
from clipmend.report.results import Results
from clipmend.report.tables import detectors

GOLDEN = (
    "corpus,attack,objective,seed,stage,method,auroc,average_precision,recall_at_fpr_01,"
    "precision_at_budget,precision_of_chosen,budget,n_pairs,n_poisoned"
)


def scored(tree):
    return Results(tree.inputs).scored


def test_metrics_of_four_pairs() -> None:
    # Ranked 0.9 (poisoned), 0.8 (clean), 0.7 (poisoned), 0.1 (clean).
    score = np.array([0.1, 0.7, 0.8, 0.9])
    poisoned = np.array([False, True, False, True])
    metrics = {"auroc": 3 / 4, "average_precision": (1 / 1 + 2 / 3) / 2, "recall_at_fpr_01": 1 / 2}
    assert ranking(score, poisoned, budget=1) == pytest.approx(
        metrics | {"precision_at_budget": 1.0}
    )
    assert ranking(score, poisoned, budget=2)["precision_at_budget"] == 1 / 2


def test_recall_is_taken_at_no_more_than_one_percent_of_false_alarms() -> None:
    # 200 clean pairs: two false alarms are allowed; the third stands above the last poisoned one.
    clean = np.concatenate([[0.9, 0.8, 0.6], np.zeros(197)])
    score = np.concatenate([clean, [0.95, 0.85, 0.7, 0.5]])
    poisoned = np.arange(204) >= 200
    assert ranking(score, poisoned, budget=None)["recall_at_fpr_01"] == 3 / 4


def test_equal_scores_have_the_auroc_of_chance_and_no_poison_has_no_metric() -> None:
    poisoned = np.array([True, False, False])
    assert ranking(np.ones(3), poisoned, budget=None)["auroc"] == 0.5
    assert ranking(np.array([0.1, 0.2]), np.array([False, False]), budget=1) == {}


def test_columns_and_blank_metrics_of_an_unpoisoned_victim(tree) -> None:
    tree.grid(objectives=["mmcl"], detectors=["clip_score"])
    text = Results(tree.inputs).detectors.to_csv(index=False).splitlines()
    assert text[0] == GOLDEN
    assert text[1] == "scenes,unpoisoned,mmcl,0,detect,clip_score,,,,,,16,200,0"
    assert [line.split(",")[1] for line in text[1:]] == ["unpoisoned", "badnet", "blended"]


def test_columns_stay_where_nothing_was_detected(tree) -> None:
    tree.grid(attacks=["badnet"], detectors=[], repairs=["none"])
    results = Results(tree.inputs)
    assert results.detectors.to_csv(index=False) == f"{GOLDEN}\n"
    assert not detectors.section(results).tables


def test_the_budget_is_what_unlearning_chose_and_of_others_what_it_asks_for(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"])
    path = tree.root / "unlearn/scenes/badnet/mmcl/seed0/ubt/chosen.parquet"
    pq.write_table(pq.read_table(path).slice(12), path)  # 3 poisoned pairs, and a clean one
    results = Results(tree.inputs)
    clip_score, ubt = results.scored
    assert (clip_score.method, clip_score.budget) == ("clip_score", 16)
    assert (ubt.method, ubt.budget) == ("ubt", 4)
    table = results.detectors
    assert table["precision_of_chosen"].isna().to_list() == [True, False]
    assert table["precision_of_chosen"][1] == 3 / 4
    assert table["precision_at_budget"].notna().all()


def test_where_nothing_was_found_it_is_compared_at_what_would_have_been_chosen(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["ubt"])
    path = tree.root / "unlearn/scenes/badnet/mmcl/seed0/ubt/chosen.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    table = Results(tree.inputs).detectors
    assert table["budget"].to_list() == [16]
    assert table["precision_at_budget"].to_list() == [12 / 16]
    assert table["precision_of_chosen"].isna().all()


def test_a_false_finding_has_no_precision_but_nought(tree) -> None:
    tree.grid(attacks=["unpoisoned"], objectives=["mmcl"], detectors=["ubt"])
    tree.inputs.pop("unlearn/scenes/unpoisoned/mmcl/seed0/ubt")
    (tree.root / "unlearn/scenes/unpoisoned/mmcl/seed0/ubt").rename(tree.root / "aside")
    tree.unlearn("scenes/unpoisoned/mmcl/seed0", "ubt", "ubt", ["000003"])
    (row,) = Results(tree.inputs).detectors.to_dict("records")
    assert (row["precision_of_chosen"], row["budget"]) == (0, 2)


def test_a_control_decides_no_budget(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "ubt@random", "ubt@oracle"])
    assert [one.budget for one in scored(tree)] == [None, None]


def test_the_printed_table_has_a_column_for_each_metric(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"])
    (printed,) = detectors.section(Results(tree.inputs)).tables
    assert list(printed.text["precision of chosen"]) == ["", "93.8"]  # 15 of 16


def test_truth_comes_from_the_overlay_of_the_same_seed(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], seeds=(0, 1), detectors=["ubt"])
    overlay = tree.root / "poison/scenes/badnet/seed1/overlay.parquet"
    pq.write_table(pq.read_table(overlay).slice(0, 2), overlay)
    table = Results(tree.inputs).detectors
    assert list(table["n_poisoned"]) == [17, 2]


def test_a_pair_that_is_changed_and_stays_true_is_no_poison(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["ubt"])
    tree.verdict("scenes/badnet/mmcl/seed0", "decree", 0.03)
    tree.spare("badnet", 3)
    results = Results(tree.inputs)
    assert list(results.detectors["n_poisoned"]) == list(results.model_scores["n_poisoned"]) == [14]


def test_a_detector_that_judges_the_model_has_no_row(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["ubt"])
    folder = tree.cell("detect/scenes/badnet/mmcl/seed0/decree", "decree")
    (folder / "model_score.json").write_text("{}")
    assert [one.method for one in scored(tree)] == ["ubt"]


def test_order_of_rows_in_the_file_does_not_matter(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], detectors=["ubt"])
    before = Results(tree.inputs).detectors
    path = tree.root / "detect/scenes/badnet/mmcl/seed0/ubt/scores.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist(rows[::-1]), path)
    assert Results(tree.inputs).detectors.equals(before)
