"""Every changed cell has its causes, and each cause what it reached."""

from typing import Any

import pytest

from clipmend.tools.audit.comparison import Comparison, compare
from clipmend.tools.audit.terminal import describe

FT = "baselines/scenes/badnet/mmcl/seed0/ft"
NUMBER = "evaluate/scenes/badnet/mmcl/seed0/ft/badnet"
VICTIM = "pretrain/scenes/badnet/mmcl/seed0"


def listed(comparison: Comparison) -> dict[str, tuple[list[str], list[str]]]:
    """Return each cause as text, with the cells that have it and those below."""
    return {
        str(root.cause): ([c.cell for c in root.cells], [c.cell for c in root.below])
        for root in comparison.roots
    }


def test_the_same_run_twice_has_no_change(a: Any, b: Any) -> None:
    compared = compare(a.side(), b.side())
    assert compared.changes == ()
    assert compared.same == 6
    assert not compared.unexplained


def test_a_parameter_is_named_as_in_params_yaml_with_both_values(a: Any, b: Any) -> None:
    b.parts[FT] = {"settings": {"lr": 0.2}}
    compared = compare(a.side(), b.side())
    cause = "parameter baselines.settings.ft.lr: 0.1 → 0.2"
    assert listed(compared) == {cause: ([FT], [NUMBER, "report"])}
    assert compared.same == 3
    # A setting of a whole stage has no method in its name.
    b.parts = {"poison/scenes/badnet/seed0": {"shared": {"target": "frog"}}}
    assert [*listed(compare(a.side(), b.side()))] == ["parameter poison.target: banana → frog"]


def test_a_change_of_code_names_the_file_and_the_functions_that_differ(a: Any, b: Any) -> None:
    old = {"digest": "s1", "fit": "f1", "module level": "m1"}
    a.functions("shared", old)
    b.functions("shared", old | {"digest": "s2", "fit": "f2", "new": "n1"})
    for cell in (VICTIM, FT):
        b.parts[cell] = {"code": {"clipmend.shared": "s2"}}
        a.parts[cell] = {"code": {"clipmend.shared": "s1"}}
    b.bytes_of[VICTIM] = "other"
    compared = compare(a.side(), b.side())
    cause = "code src/clipmend/shared.py (fit, new): s1 → s2"
    assert listed(compared) == {cause: ([VICTIM, FT], [NUMBER, "report"])}


def test_without_the_list_of_functions_a_change_of_code_names_the_file(a: Any, b: Any) -> None:
    b.parts[FT] = {"code": {"clipmend.shared": "s2", "clipmend.new": "n"}}
    b.bytes_of[FT] = "other"
    causes = list(listed(compare(a.side(), b.side())))
    assert "code src/clipmend/shared.py: s1 → s2" in causes
    assert "code clipmend.new: (none) → imported" in causes


def test_cells_with_the_same_bytes_have_one_cause_with_the_reasons_behind_it(
    a: Any, b: Any
) -> None:
    b.parts[VICTIM] = {"code": {"clipmend.shared": "s2", "clipmend.stages.pretrain": "pretrain1"}}
    b.parts[FT] = {"settings": {"rate": 0.1, "lr": 0.1}}
    compared = compare(a.side(), b.side())
    assert {change.cell: change.how for change in compared.changes if change.cell != FT} == {
        VICTIM: "remade",
        NUMBER: "changed",
        "report": "changed",  # the cards that it gathers are others
    }
    (root,) = (root for root in compared.roots if root.cause.kind == "same bytes")
    assert [change.cell for change in root.cells] == [VICTIM]
    assert "code src/clipmend/shared.py: s1 → s2" in {str(cause) for cause in root.behind}
    assert set(root.behind.values()) == {1}


def test_an_edited_file_of_the_users_own_is_a_cause(a: Any, b: Any) -> None:
    a.parts["download/scenes"] = {"files": {"data/mine.parquet": "0123456789"}}
    b.parts["download/scenes"] = {"files": {"data/mine.parquet": "abcdefghij"}}
    b.bytes_of["download/scenes"] = "other"
    ((cause, cells),) = listed(compare(a.side(), b.side())).items()
    assert cause == "file data/mine.parquet: 01234567 → abcdefgh"
    assert len(cells[1]) == 5


def test_another_package_is_a_cause_where_bytes_differ_and_a_reason_where_they_do_not(
    a: Any, b: Any
) -> None:
    newer = {"python": "3.11.7", "packages": {"torch": "2.14.0"}, "cpu": "avx2", "device": "cpu"}
    b.parts = {cell: {"environment": newer} for cell in (FT, NUMBER)}
    b.bytes_of[FT] = "rounded otherwise"
    compared = compare(a.side(), b.side())
    cause = "environment packages.torch: 2.13.0 → 2.14.0"
    assert listed(compared) == {cause: ([FT, NUMBER], ["report"])}
    b.bytes_of = {}
    compared = compare(a.side(), b.side())
    assert [change.how for change in compared.changes] == ["remade", "remade", "changed"]
    assert {str(cause): count for cause, count in compared.roots[0].behind.items()} == {cause: 2}
    assert not compared.unexplained


def test_other_bytes_from_the_same_parts_are_unexplained_and_come_first(a: Any, b: Any) -> None:
    b.bytes_of[VICTIM] = "edited by hand, or not deterministic"
    b.parts[FT] = {"settings": {"lr": 0.2}}
    compared = compare(a.side(), b.side())
    assert compared.unexplained
    assert list(listed(compared)) == [
        f"unexplained {VICTIM}: other bytes from the same parts",
        "parameter baselines.settings.ft.lr: 0.1 → 0.2",
    ]


def test_an_input_remade_to_the_same_bytes_does_not_excuse_other_bytes(a: Any, b: Any) -> None:
    b.parts[VICTIM] = {"code": {"clipmend.shared": "s2", "clipmend.stages.pretrain": "pretrain1"}}
    b.bytes_of[FT] = "not deterministic"
    compared = compare(a.side(), b.side())
    assert f"unexplained {FT}: other bytes from the same parts" in listed(compared)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (FT, "made is not what its card says"),
        ("pretrain", "dvc.lock names other files than the cards do"),  # a stage
    ],
)
def test_files_other_than_the_card_or_dvc_lock_says_are_unexplained(
    a: Any, b: Any, name: str, why: str
) -> None:
    b.edited[name] = why
    compared = compare(a.side(), b.side())
    assert list(listed(compared)) == [f"unexplained {name}: {why}, in b"]
    assert compared.unexplained


def test_a_new_method_is_an_entry_of_its_list(a: Any, b: Any) -> None:
    a.cells = {cell: inputs for cell, inputs in a.cells.items() if "/ft" not in cell}
    compared = compare(a.side(), b.side())
    assert listed(compared) == {"grid baselines.methods: (none) → ft": ([FT, NUMBER], ["report"])}
    assert [compared.count("added"), compared.count("changed")] == [2, 1]


def test_a_change_has_the_numbers_that_it_moved(a: Any, b: Any) -> None:
    a.numbers()
    b.numbers(attack_success_rate=0.25)
    b.parts[FT] = {"settings": {"lr": 0.2}}
    compared = compare(a.side(), b.side())
    (moved,) = [change for change in compared.changes if change.numbers]
    assert moved.cell == NUMBER
    assert moved.numbers == {"ASR": (0.5, 0.25)}


def test_a_cell_is_listed_once_under_the_cause_of_the_fewest_cells(a: Any, b: Any) -> None:
    for cell in (VICTIM, FT, NUMBER):
        code = {"clipmend.shared": "s2", f"clipmend.{cell.partition('/')[0]}.stage": "x"}
        a.parts[cell] = {"code": code | {"clipmend.shared": "s1"}}
        b.parts[cell] = {"code": code}
    b.parts[FT]["settings"] = {"lr": 0.2}
    b.bytes_of[VICTIM] = "other"
    compared = compare(a.side(), b.side())
    cells = {root.cause.kind: [c.cell for c in root.listed(root.cells)] for root in compared.roots}
    assert cells == {"parameter": [FT], "code": [VICTIM, NUMBER]}
    assert [len(root.cells) for root in compared.roots] == [1, 3]
    assert [[c.cell for c in root.listed(root.below)] for root in compared.roots] == [
        ["report"],
        [],
    ]
    number = next(change for change in compared.changes if change.cell == NUMBER)
    assert number.fed  # its code changed as well, but that alone did not move it
    assert describe(number, compared.roots[1]).endswith("(and its inputs)")


def test_a_table_that_cannot_be_read_moves_no_number(a: Any, b: Any) -> None:
    a.report["cells.csv"] = b"corpus,attack\nscenes\n"
    b.report["cells.csv"] = b"\xff\x00"
    assert compare(a.side(), b.side()).changes == ()
