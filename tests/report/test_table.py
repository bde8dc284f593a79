"""table.csv and table.md: means over seeds, and which entries are set apart."""

import numpy as np
import pandas as pd
import pytest

from clipmend.report.cells import COLUMNS, means_table, student_interval
from clipmend.report.results import Results
from clipmend.report.table import Section, markdown
from clipmend.report.tables import changes, comparison
from tests.report.rows import cell, texts


def cells_of(*rows):
    return pd.DataFrame(rows, columns=[*COLUMNS, "found"])


def section(module, cells):
    """Return the section of a table module for these cells."""
    return module.section(Results({}, joined={"cells.csv": cells}))


def table_of(module, *rows):
    """Return the only table of a table module for these cells."""
    (table,) = section(module, cells_of(*rows)).tables
    return table


def bold(table):
    return [[mark for _, mark in row] for row in table.rows]


def test_student_interval_of_known_values_and_none_of_one_seed() -> None:
    # Mean 2, standard error 1 / sqrt(3), and the 97.5 % point of t with 2 degrees is 4.302653.
    low, high = student_interval([1.0, 2.0, 3.0], 0.95)
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert student_interval([0.5], 0.95) is None


def test_seeds_become_one_row_and_the_interval_of_a_fraction_is_clipped() -> None:
    rates = enumerate([(0.7, 0.3), (0.8, 0.2), (0.9, 0.1)])
    table = means_table(cells_of(*(cell(seed=k, ca=ca, asr=asr) for k, (ca, asr) in rates)), 0.95)
    (row,) = table.to_dict("records")
    assert row["clean_accuracy"] == pytest.approx(0.8)
    assert row["clean_accuracy_low"] == pytest.approx(0.8 - 4.302653 * 0.1 / 3**0.5)
    assert row["clean_accuracy_high"] == 1.0
    assert row["attack_success_rate_low"] == 0.0
    assert (row["n_seeds"], row["n_clean"]) == (3, 100)
    assert "seed" not in row


def test_columns_are_those_of_the_cells_without_the_seed_and_one_seed_has_no_interval() -> None:
    table = means_table(cells_of(cell("ubt", found=True), cell()), 0.95)
    assert list(table.columns) == [*(name for name in COLUMNS if name != "seed"), "n_seeds"]
    *_, line = table.to_csv(index=False).splitlines()
    assert line == "scenes,badnet,badnet,mmcl,pretrain,none,False,,0.8,,,100,0.9,,,90,1"


def test_a_metric_that_is_no_fraction_is_not_clipped_and_may_be_missing() -> None:
    cells = cells_of(cell(), cell("ft"))
    cells["steps"] = [300.0, None]
    table = means_table(cells, 0.95)
    assert table["steps"].to_list()[0] == 300
    assert pd.isna(table["steps"].to_list()[1])


def test_the_best_repair_is_bold_and_a_control_or_the_victim_never() -> None:
    repairs = cell("ft", ca=0.80, asr=0.50), cell("ubt", ca=0.79, asr=0.10)
    control = cell("ubt@oracle", ca=0.85, asr=0.00, control=True)
    printed = table_of(comparison, cell("none", ca=0.99), *repairs, control)
    assert printed.header == ("method", "badnet CA", "badnet ASR")
    assert texts(printed)[3] == ["ubt@oracle†", "85.0", "0.0"]
    marked = [(row, column) for row, column in np.argwhere(bold(printed)).tolist()]
    assert marked == [(1, 1), (2, 2)]


def test_what_prints_alike_is_ranked_alike() -> None:
    printed = table_of(comparison, cell("ft", asr=0.10001), cell("ubt", asr=0.10002))
    assert [row[2] for row in bold(printed)] == [True, True]


def test_a_repair_alone_is_not_the_best_of_anything() -> None:
    assert not any(map(any, bold(table_of(comparison, cell(), cell("ft")))))


def test_the_asr_of_an_unpoisoned_victim_is_not_ranked() -> None:
    rows = [
        cell(name, attack="unpoisoned", trigger=trigger)
        for name in ("ft", "ubt")
        for trigger in ("badnet", "blended")
    ]
    printed = table_of(comparison, *rows)
    headings = ("CA", "ASR under badnet", "ASR under blended")
    assert printed.header[1:] == tuple(f"unpoisoned {heading}" for heading in headings)
    assert bold(printed)[0] == [False, True, False, False]


def test_attacks_that_do_not_fit_side_by_side_have_tables_of_their_own() -> None:
    names = [f"badnet@{number}" for number in range(9)]
    rows = [cell(attack="unpoisoned", trigger=name) for name in names]
    rows += [cell(attack=name, trigger=name) for name in names]
    parts = section(comparison, cells_of(*rows)).tables
    assert [len(part.header) - 1 for part in parts] == [12, 12, 4]
    assert parts[0].title == "scenes, mmcl: unpoisoned, badnet@0"
    assert parts[2].title == "scenes, mmcl: badnet@7, badnet@8"
    assert all(len(row) == len(part.header) for part in parts for row in part.rows)


def test_a_gap_in_the_grid_prints_as_a_gap() -> None:
    printed = table_of(comparison, cell(), cell(attack="blended"), cell("ft"))
    assert texts(printed)[1] == ["ft", "80.0", "90.0", "", ""]


def test_changes_are_paired_by_victim() -> None:
    victims = cell(seed=0, ca=0.80, asr=0.90), cell(seed=1, ca=0.60, asr=1.00)
    ft = cell("ft", seed=0, ca=0.79, asr=0.50), cell("ft", seed=1, ca=0.60, asr=0.70)
    ubt = cell("ubt", seed=1, ca=0.61, asr=0.10)
    assert texts(table_of(changes, *victims, *ft, ubt)) == [
        ["ft", "2", "-0.5 (-1.0 to +0.0)", "-35.0 (-40.0 to -30.0)", "0", ""],
        ["ubt", "1", "+1.0", "-90.0", "0", ""],
    ]


def test_what_a_repair_does_to_the_target_s_own_images_is_a_change_too() -> None:
    cells = cells_of(cell(), cell("ft"))
    cells["target_accuracy"] = [0.148, 0.034]
    (printed,) = section(changes, cells).tables
    assert printed.header[4] == "CA of the target, mean (lowest to highest)"
    assert texts(printed) == [["ft", "1", "+0.0", "+0.0", "-11.4", "0", ""]]


def test_the_legend_says_how_many_images_the_target_has() -> None:
    cells = cells_of(cell(), cell("ft")).assign(n_target_accuracy=[528, None])
    notes = section(comparison, cells).notes
    assert any("CA of the target over n = 528 of its images" in note for note in notes)


def test_an_unpoisoned_victim_counts_once_however_many_triggers() -> None:
    rows = [
        cell(name, attack="unpoisoned", trigger=trigger, ca=ca)
        for name, ca in (("none", 0.8), ("ft", 0.7))
        for trigger in ("badnet", "blended")
    ]
    assert texts(table_of(changes, *rows)) == [["ft", "0", "", "", "1", "-10.0"]]


def test_a_victim_of_several_triggers_changes_once() -> None:
    many = {"attack": "multi", "ca": 0.8}
    rows = [
        cell(name, trigger=f"multi.{trigger}", asr=asr, **many)
        for name, success in (("none", (0.9, 0.7)), ("ft", (0.5, 0.1)))
        for trigger, asr in zip(("badnet", "blended"), success, strict=True)
    ]
    printed = table_of(changes, *rows, cell(), cell("ft", asr=0.8))
    assert texts(printed) == [["ft", "2", "+0.0 (+0.0 to +0.0)", "-30.0 (-50.0 to -10.0)", "0", ""]]


def test_markdown_says_what_n_and_the_marks_mean() -> None:
    cells = cells_of(cell(), cell("ubt@oracle", control=True))
    compared = section(comparison, cells)
    text = markdown(
        [compared, Section("Nothing", []), Section("Page", compared.tables, page_only=True)]
    )
    assert text.startswith("# Clean accuracy (CA) and attack success rate (ASR), in percent\n\n## ")
    assert "Nothing" not in text
    assert "# Page" not in text
    assert "| ubt@oracle† | 80.0 | 90.0 |" in text
    assert "- scenes: CA over n = 100 test images, ASR over n = 90 triggered images." in text
    assert "† marks a control" in text


def test_several_seeds_print_their_interval() -> None:
    printed = table_of(comparison, cell(seed=0, ca=0.8), cell(seed=1, ca=0.8))
    assert texts(printed)[0][1] == "80.0 (80.0 to 80.0)"


def test_where_nothing_was_found_is_said_once_for_the_same_victims() -> None:
    nowhere = {"attack": "unpoisoned", "stage": "unlearn", "found": False}
    cells = cells_of(
        *(cell(name, seed=k, trigger=trigger, **nowhere)
          for name in ("ubt@oracle", "ubt")
          for k in (0, 1)
          for trigger in ("badnet", "blended")),
        cell("ubt@random", objective="mmcl_ssl", **nowhere),
        cell("ubt", found=True),
        cell("ft"),
    )  # fmt: skip
    notes = [line for line in section(comparison, cells).notes if "found nothing" in line]
    assert notes == [
        "`ubt` and `ubt@oracle` found nothing in scenes/unpoisoned/mmcl seeds 0, 1 and left the "
        "model as it was.",
        "`ubt@random` found nothing in scenes/unpoisoned/mmcl_ssl seed 0 and left the model as it "
        "was.",
    ]


def test_where_the_target_is_forgotten_is_said() -> None:
    cells = cells_of(*(cell(name, ca=0.6) for name in ("ft", "abl", "pud", "ubt")))
    assert not any("forgotten" in line for line in section(comparison, cells).notes)
    cells["target_accuracy"] = [0.3, 0.29, 0.0, None]
    notes = [line for line in section(comparison, cells).notes if "forgotten" in line]
    assert notes == [
        "`abl` and `pud` in scenes/badnet/mmcl seed 0: CA of the target below half of CA. "
        "A low ASR says little about a model that has forgotten the target."
    ]


def test_rows_that_were_left_out_of_a_corpus_are_a_note(tree) -> None:
    tree.corpus("mine")
    folder = tree.inputs["download/mine"].folder
    (folder / "bad_rows.json").write_text('{"rows": 40, "left_out": 3, "share": 0.075}')
    cells = {"cells.csv": cells_of(cell(), cell("ft"))}
    notes = comparison.section(Results(tree.inputs, joined=cells)).notes
    assert (
        "mine: 3 of 40 rows (7.5%) cannot be used and were left out; bad_rows.json lists them."
        in notes
    )
