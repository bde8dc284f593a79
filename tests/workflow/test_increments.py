"""Exactly the cells that depend on an edit are made again, as the jobs themselves count."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

VICTIM = "pretrain/scenes/badnet/mmcl/seed0"
UBT = {"methods": ["ubt", "ubt@random"], "settings": {"ubt@random": {"rate": 0.3}}}
SHARDS = {"corpora": ["scenes"], "rows_per_shard": 1000}


def replace_file(path: Path, text: str) -> None:
    """Write a new file, so that no hard link to the old bytes changes."""
    path.unlink()
    path.write_text(text)


def test_no_job_runs_after_an_edit_that_changes_no_meaning(project: Any) -> None:
    shutil.rmtree(project.root / ".snakemake")
    (project.root / ".clipmend/index.json").unlink()
    for path in project.root.rglob("*"):
        if path.is_file():
            os.utime(path)
    module = project.root / "src/clipmend/methods/repairs/ft.py"
    text = module.read_text().replace('"""A stub method."""', '"""Another text."""')
    module.write_text(f"# A comment.\n\n{text.replace('0.1', '(0.1)')}")
    project.edit(
        "src/clipmend/methods/table.py", '"cleanclip":', '"new": Method("Z"),\n        "cleanclip":'
    )
    project.edit("src/clipmend/cli.py", "no_args_is_help=True", "no_args_is_help=False")
    assert project.run() == []
    assert not project.planned()


def test_a_setting_that_is_changed_runs_its_branch_once_and_none_when_changed_back(
    project: Any,
) -> None:
    before = project.contents()
    project.params(unlearn=UBT)
    assert project.planned()
    project.params()
    assert project.run() == []
    project.params(unlearn=UBT)
    assert project.run() == project.branch("ubt@random", "unlearn")
    project.params()
    assert project.run() == []
    assert project.contents() == before


def test_code_of_one_method_runs_its_branch(project: Any) -> None:
    project.edit("src/clipmend/methods/repairs/ft.py", "rate: Fraction", "strength: Fraction")
    assert project.run() == project.branch("ft")


def test_a_new_method_in_the_table_runs_its_branch(project: Any) -> None:
    module = project.root / "src/clipmend/methods/repairs/new.py"
    module.write_text((module.parent / "ft.py").read_text().replace("class FT", "class New"))
    row = '"new": Method("New"),\n        "cleanclip":'
    project.edit("src/clipmend/methods/table.py", '"cleanclip":', row)
    project.params(baselines={"methods": ["ft", "new"]})
    assert project.run() == project.branch("new")


def test_code_shared_by_all_stages_runs_everything(project: Any) -> None:
    project.edit("src/clipmend/data/shared_by_all.py", '"1"', '"2"')
    assert "22 of 22 cells are stale." in project.call("clipmend", "status").stdout
    poisons = [f"poison/scenes/{attack}/seed0" for attack in ("badnet", "unpoisoned")]
    assert project.run("stage_poison") == ["download/scenes", *poisons]


def test_code_shared_by_two_stages_runs_these_and_the_stages_below(project: Any) -> None:
    project.edit("src/clipmend/model/shared_by_two.py", '"1"', '"2"')
    status = project.call("clipmend", "status").stdout.splitlines()
    edited = {line.partition(":")[0] for line in status if "shared_by_two" in line}
    assert {cell.split("/")[0] for cell in edited} == {"detect", "baselines"}
    ran = project.run()
    stages = {"detect", "unlearn", "baselines", "evaluate", "report"}
    assert {cell.split("/")[0] for cell in ran} == stages
    assert not [cell for cell in ran if "/none/" in cell]
    assert edited < set(ran)


def damage(project: Any) -> list[str]:
    """Replace, delete and falsify a file each, and return the three damaged cells."""
    results = project.root / "results"
    replace_file(results / VICTIM / "model.safetensors", "other bytes")
    shutil.rmtree(results / "poison/scenes/unpoisoned")
    card = results / "detect/scenes/badnet/mmcl/seed0/ubt/card.json"
    replace_file(card, card.read_text().replace('"rate": 0.1', '"rate": 0.9'))
    return ["detect/scenes/badnet/mmcl/seed0/ubt", "poison/scenes/unpoisoned/seed0", VICTIM]


def edit_in_place(project: Any) -> list[str]:
    """Change the bytes of a model in ``results/`` and, by its hard link, in the store."""
    with (project.root / "results" / VICTIM / "model.safetensors").open("a") as file:
        file.write("more")
    return [VICTIM]


@pytest.mark.parametrize(
    ("harm", "has_store"), [(damage, True), (damage, False), (edit_in_place, True)]
)
def test_damaged_cells_come_back_from_the_store_or_else_are_made_again_alone(
    project: Any, harm: Callable[[Any], list[str]], has_store: bool
) -> None:
    before = project.contents()
    cells = harm(project)
    if not has_store:
        shutil.rmtree(project.root / ".clipmend/store")
    is_stored = has_store and harm is damage
    assert project.run() == ([] if is_stored else cells)
    assert project.contents() == before


def test_a_truncated_model_and_an_edited_table_are_named_and_repaired(project: Any) -> None:
    before = project.contents()
    replace_file(project.root / "results" / VICTIM / "model.safetensors", "tru")
    replace_file(project.root / "results/report/table.md", "| ours | 100.0 |")
    done = project.call("clipmend", "verify")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{VICTIM}: model.safetensors is not what its card says",
        "report: table.md is not what its card says",
    ]
    assert project.run() == []  # the store has both
    assert project.contents() == before
    project.succeed("clipmend", "verify")


def test_shards_are_files_of_their_cell(project: Any) -> None:
    before = project.contents()
    project.params(download=SHARDS)
    assert len(project.run()) == sum(name.endswith("card.json") for name in before)
    sharded = project.contents()
    shard = project.root / "results/download/scenes/train/00001.parquet"
    shard.unlink()
    assert project.run() == []
    assert project.contents() == sharded
    project.params()
    assert project.run() == []
    assert project.contents() == before
    project.params(download=SHARDS)
    assert project.run() == []
    shutil.rmtree(project.root / ".clipmend/store")
    shard.unlink()
    assert "train/00001.parquet is missing" in project.call("clipmend", "verify").stdout
    assert project.run() == ["download/scenes"]
    assert project.contents() == sharded


def test_a_file_of_no_card_is_moved_out_of_results(project: Any) -> None:
    before = project.contents()
    stray = project.root / f"results/{VICTIM}/notes.txt"
    stray.write_text("mine")
    assert project.run() == []
    assert project.contents() == before
    moved = project.root / f".clipmend/damaged/{VICTIM}/notes.txt"
    assert moved.read_text() == "mine"
