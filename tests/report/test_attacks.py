"""The attacks' table: what is poisoned, and what it does undefended."""

import json

import pytest

from clipmend.report.files import ATTACK_COLUMNS
from clipmend.report.results import Results
from clipmend.report.tables import attacks
from tests.report.rows import texts

GRID = {
    "attacks": ["trojvqa", "unpoisoned", "badnet"],
    "objectives": ["mmcl", "mmcl_ssl"],
    "repairs": ["none", "ubt"],
}


@pytest.fixture
def grid(tree):
    tree.grid(**GRID, seeds=(0, 1))
    return tree


def printed(results):
    (table,) = attacks.section(results).tables
    return table


def test_a_row_per_trigger_and_seed_in_the_report_s_order(grid) -> None:
    found = Results(grid.inputs).attacks
    assert tuple(found.columns) == ATTACK_COLUMNS
    order = [(attack, seed) for attack in ("unpoisoned", "badnet", "trojvqa") for seed in (0, 1)]
    assert list(zip(found["attack"], found["seed"], strict=True)) == order
    assert found.loc[found["attack"] == "unpoisoned", "psnr"].isna().all()
    assert found["n_measured"].dropna().eq(64).all()


def test_printed_beside_each_objective_s_undefended_victims(grid) -> None:
    table = printed(Results(grid.inputs))
    assert len(table.header) == 7 + 2 * 2
    rows = texts(table)
    assert [row[0] for row in rows] == ["unpoisoned", "badnet", "trojvqa"]
    assert rows[1][1:7] == ["banana", "17", "8.50", "20.5", "0.910", "25.0"]
    assert rows[2][1] == "banana, `remember {}`"
    assert rows[2][2] == "17 (and 4 with the image trigger alone, 3 with the text's)"
    assert all(row[7] for row in rows)
    assert [bool(row[8]) for row in rows] == [False, True, True]


def test_each_key_alone_has_a_column_where_it_was_measured(grid) -> None:
    results = Results(grid.inputs)
    own = (results.cells["attack"] == "trojvqa") & (results.cells["objective"] == "mmcl")
    results.cells.loc[own, "attack_success_rate_image"] = 0.25
    assert list(printed(results).text["mmcl ASR, image alone"]) == ["", "", "25.0"]


def test_an_unpoisoned_victim_has_a_row_for_each_target(grid) -> None:
    results = Results(grid.inputs)
    results.attacks.loc[results.attacks["trigger"] == "trojvqa", "target"] = "car"
    cells = results.cells
    rates = {"unpoisoned badnet": 0.7, "unpoisoned trojvqa": 0.5, "badnet badnet": 0.06}
    pairs = cells["attack"] + " " + cells["trigger"]
    cells["target_accuracy"] = [rates.get(pair, 0.4) for pair in pairs]
    text = printed(results).text
    columns = ["trigger", "target", "mmcl CA of the target"]
    assert list(text[columns].itertuples(index=False, name=None)) == [
        ("unpoisoned", "banana", "70.0"),
        ("unpoisoned", "car", "50.0"),
        ("badnet", "banana", "6.0"),
        ("trojvqa", "car, `remember {}`", "40.0"),
    ]
    assert list(text["mmcl ASR"].astype(bool)) == [False, False, True, True]


def test_an_attack_of_several_triggers_has_a_row_for_each(grid) -> None:
    path = next(i.folder for i in grid.inputs.values() if i.cell == "poison/scenes/badnet/seed0")
    stated = json.loads((path / "triggers.json").read_text())
    one = stated["triggers"][0]
    stated["triggers"] = [one | {"name": "badnet.a"}, one | {"name": "badnet.b", "target": "car"}]
    (path / "triggers.json").write_text(json.dumps(stated))
    found = Results(grid.inputs).attacks
    assert set(found["trigger"]) == {"unpoisoned", "badnet.a", "badnet.b", "badnet", "trojvqa"}
    assert set(found["target"]) == {"banana", "car"}
