"""The attacks' table: what is planted, and what it does undefended."""

import json

import pandas as pd
import pytest

from clipmend.report.attacks import COLUMNS, attacks_table, printed_attacks
from clipmend.report.cells import cells_table
from clipmend.report.persistence import draw_persistence
from clipmend.report.table import means_table

GRID = {
    "attacks": ["trojvqa", "unpoisoned", "badnet"],
    "objectives": ["mmcl", "mmcl_ssl"],
    "repairs": ["none", "ubt"],
}


@pytest.fixture
def grid(tree):
    tree.grid(**GRID, seeds=(0, 1))
    return tree


def texts(printed):
    return [[entry.text for entry in row] for row in printed.rows]


def test_a_row_per_trigger_and_seed_in_the_report_s_order(grid) -> None:
    found = attacks_table(grid.inputs)
    assert tuple(found.columns) == COLUMNS
    order = [(attack, seed) for attack in ("unpoisoned", "badnet", "trojvqa") for seed in (0, 1)]
    assert list(zip(found["attack"], found["seed"], strict=True)) == order
    assert found.loc[found["attack"] == "unpoisoned", "psnr"].isna().all()
    assert found["n_measured"].dropna().eq(64).all()


def test_printed_beside_each_objective_s_undefended_victims(grid) -> None:
    table = means_table(cells_table(grid.inputs), 0.95)
    (printed,) = printed_attacks(attacks_table(grid.inputs), table)
    assert len(printed.header) == 7 + 2 * 2
    rows = texts(printed)
    assert [row[0] for row in rows] == ["unpoisoned", "badnet", "trojvqa"]
    assert rows[1][1:7] == ["banana", "17", "8.50", "20.5", "0.910", "25.0"]
    assert rows[2][1] == "banana, `remember {}`"
    assert rows[2][2] == "17 (and 4 with the image's key alone, 3 the text's)"
    assert all(row[7] for row in rows)
    assert [bool(row[8]) for row in rows] == [False, True, True]


def test_each_key_alone_has_a_column_where_it_was_measured(grid) -> None:
    table = means_table(cells_table(grid.inputs), 0.95)
    own = (table["attack"] == "trojvqa") & (table["objective"] == "mmcl")
    table.loc[own, "attack_success_rate_image"] = 0.25
    (printed,) = printed_attacks(attacks_table(grid.inputs), table)
    column = printed.header.index("mmcl ASR, image alone")
    assert [row[column] for row in texts(printed)] == ["", "", "25.0"]


def test_an_unpoisoned_victim_has_a_row_for_each_target(grid) -> None:
    attacks = attacks_table(grid.inputs)
    attacks.loc[attacks["trigger"] == "trojvqa", "target"] = "car"
    table = means_table(cells_table(grid.inputs), 0.95)
    known = {
        ("unpoisoned", "badnet"): 0.7,
        ("unpoisoned", "trojvqa"): 0.5,
        ("badnet", "badnet"): 0.06,
    }
    pairs = zip(table["attack"], table["trigger"], strict=True)
    table["target_accuracy"] = [known.get(pair, 0.4) for pair in pairs]
    (printed,) = printed_attacks(attacks, table)
    column = printed.header.index("mmcl CA of the target")
    assert [(row[0], row[1], row[column]) for row in texts(printed)] == [
        ("unpoisoned", "banana", "70.0"),
        ("unpoisoned", "car", "50.0"),
        ("badnet", "banana", "6.0"),
        ("trojvqa", "car, `remember {}`", "40.0"),
    ]
    success = printed.header.index("mmcl ASR")
    assert [bool(row[success]) for row in texts(printed)] == [False, False, True, True]


def test_an_attack_of_several_triggers_has_a_row_for_each(grid) -> None:
    path = next(i.folder for i in grid.inputs.values() if i.cell == "poison/scenes/badnet/seed0")
    stated = json.loads((path / "triggers.json").read_text())
    one = stated["triggers"][0]
    stated["triggers"] = [one | {"name": "badnet.a"}, one | {"name": "badnet.b", "target": "car"}]
    (path / "triggers.json").write_text(json.dumps(stated))
    found = attacks_table(grid.inputs)
    assert set(found["trigger"]) == {"unpoisoned", "badnet.a", "badnet.b", "badnet", "trojvqa"}
    assert set(found["target"]) == {"banana", "car"}


def test_what_repairs_leave_is_a_square_for_each_attack_and_repair(grid) -> None:
    table = means_table(cells_table(grid.inputs), 0.95)
    figure = draw_persistence(table)
    panels = figure.axes
    assert len(panels) == 2
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["none", "ubt"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["badnet", "trojvqa"]
    rate = table[(table["attack"] == "badnet") & (table["method"] == "ubt")]
    rate = rate[rate["objective"] == "mmcl"]["attack_success_rate"].iloc[0]
    assert f"{100 * rate:.0f}" in {text.get_text() for text in panels[0].texts}


def test_without_a_repair_there_is_nothing_to_draw() -> None:
    names = ("corpus", "attack", "objective", "trigger", "method", "control", "attack_success_rate")
    assert not draw_persistence(pd.DataFrame(columns=list(names))).axes
