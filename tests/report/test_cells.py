"""cells.csv: its columns are a contract."""

import pandas as pd

from clipmend.report.cells import groups
from clipmend.report.results import Results

GOLDEN = (
    "corpus,attack,trigger,objective,seed,stage,method,control,needs,"
    "clean_accuracy,clean_accuracy_low,clean_accuracy_high,n_clean,"
    "attack_success_rate,attack_success_rate_low,attack_success_rate_high,n_triggered,found"
)


def cells_of(tree):
    return Results(tree.inputs).cells


def test_columns_are_those_of_the_design_and_stay_where_there_is_no_cell(tree) -> None:
    assert ",".join(cells_of(tree.grid()).columns) == GOLDEN
    assert ",".join(Results({}).cells.columns) == GOLDEN


def test_further_metrics_follow_and_may_be_missing_in_some_cells(tree) -> None:
    top5 = {"value": 0.97, "low": 0.96, "high": 0.98, "n": 10000}
    tree.evaluate("scenes/badnet/mmcl/seed0", "none", "badnet", clean_accuracy_top5=top5, hours=2)
    tree.evaluate("scenes/badnet/mmcl/seed0", "ft", "badnet")
    cells = cells_of(tree)
    top5 = "clean_accuracy_top5"
    columns = [top5, f"{top5}_low", f"{top5}_high", f"n_{top5}", "hours", "found"]
    assert list(cells.columns[17:]) == columns
    text = cells.to_csv(index=False).splitlines()
    assert text[1].endswith(",0.97,0.96,0.98,10000,2.0,")
    assert text[2].endswith(",9500,,,,,,")


def test_the_numbers_that_a_run_asks_for_come_after_all_columns_of_other_runs(tree) -> None:
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    more = {"image_to_text_recall_1": rate, "swap_text_accuracy": rate, "triggered_accuracy": rate}
    tree.evaluate("scenes/badnet/mmcl/seed0", "none", "badnet", **more)
    results = Results(tree.inputs)
    columns = list(results.cells.columns)
    seen, found = columns.index("triggered_accuracy"), columns.index("found")
    assert 17 <= seen < found == len(columns) - 9
    assert columns[found + 1] == "image_to_text_recall_1"
    assert columns[-1] == "n_swap_text_accuracy"
    means = list(results.means.columns)
    assert means[means.index("n_seeds") + 1 :] == columns[found + 1 :]


def test_rows_stand_in_the_order_of_the_grid_whatever_the_order_of_inputs(tree) -> None:
    tree.grid()
    cells = cells_of(tree)
    assert list(dict.fromkeys(cells["attack"])) == ["unpoisoned", "badnet", "blended"]
    assert " ".join(cells["method"][:6]) == "none ft cleanclip ubt ubt@random ubt@oracle"
    tree.inputs = dict(reversed(tree.inputs.items()))
    assert cells_of(tree).equals(cells)


def test_an_unpoisoned_victim_has_a_row_per_trigger(tree) -> None:
    cells = cells_of(tree.grid(repairs=["none"], objectives=["mmcl"]))
    clean = cells[cells["attack"] == "unpoisoned"]
    assert list(clean["trigger"]) == ["badnet", "blended"]


def test_needs_controls_and_definitions_are_those_of_the_cells(tree) -> None:
    results = Results(tree.grid(attacks=["badnet"], objectives=["mmcl"]).inputs)
    assert list(results.cells["needs"]) == ["", "trusted", "trusted", "train", "train", "train"]
    assert results.controls == {"ubt@random", "ubt@oracle"}
    stated = results.definitions
    assert stated["clean_accuracy"] == "Zero-shot top-1 on untouched test images."


def test_a_repair_that_unlearns_without_a_search_has_nothing_to_find(tree) -> None:
    tree.grid(attacks=["badnet"], objectives=["mmcl"], repairs=["none", "ubt"])
    for name in ("finding.json", "chosen.parquet"):
        (tree.root / "unlearn/scenes/badnet/mmcl/seed0/ubt" / name).unlink()
    results = Results(tree.inputs)
    assert results.cells["found"].isna().all()
    assert results.findings == []


def test_found_is_what_the_unlearner_of_the_same_victim_says(tree) -> None:
    tree.grid(attacks=["unpoisoned", "badnet"], objectives=["mmcl"], repairs=["none", "ft", "ubt"])
    cells = cells_of(tree)
    assert [line.rpartition(",")[2] for line in cells.to_csv(index=False).splitlines()] == [
        "found",
        *["", "", "False"],
        *["", "", "True"],
    ]


def test_groups_come_in_the_order_of_the_report() -> None:
    table = pd.DataFrame({"corpus": "scenes", "objective": ["roclip", "siglip", "mmcl"]})
    names = [objective for (_, objective), _ in groups(table, "corpus", "objective")]
    assert names == ["mmcl", "siglip", "roclip"]
