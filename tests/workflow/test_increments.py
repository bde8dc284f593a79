"""Exactly what depends on an edit is made again; counted by the jobs themselves."""

import os
import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.slow

UBT = {"methods": ["ubt", "ubt@random"], "settings": {"ubt@random": {"rate": 0.3}}}


def below_random(attack: str) -> list[str]:
    """Return the cells that one setting of ``ubt@random`` reaches, but for the report."""
    victim = f"scenes/{attack}/mmcl/seed0/ubt@random"
    return [f"unlearn/{victim}", f"evaluate/{victim}/badnet"]


def test_nothing_runs_after_what_changes_no_meaning(project: Any) -> None:
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


def test_one_setting_tried_dry_then_run_then_set_back_runs_its_branch_once(project: Any) -> None:
    before = project.contents()
    project.params(unlearn=UBT)
    branch = [*below_random("badnet"), *below_random("unpoisoned"), "report"]
    assert project.planned()
    project.params()
    assert project.run() == []
    project.params(unlearn=UBT)
    assert project.run() == sorted(branch)
    project.params()
    assert project.run() == []
    assert project.contents() == before


def test_two_settings_swapped_are_noticed(project: Any) -> None:
    swapped = {"ubt": {"rate": 0.2}, "ubt@random": {"rate": 0.1}}
    project.params(unlearn={"methods": ["ubt", "ubt@random"], "settings": swapped})
    assert {cell.split("/")[0] for cell in project.run()} == {"unlearn", "evaluate", "report"}


def test_a_preset_tried_and_left_runs_nothing(project: Any) -> None:
    before = project.contents()
    project.params(baselines={"methods": []}, detect={"methods": ["ubt", "clip_score"]})
    detect = [f"detect/scenes/{a}/mmcl/seed0/clip_score" for a in ("badnet", "unpoisoned")]
    assert project.run() == sorted([*detect, "report"])
    assert not [name for name in project.contents() if name.startswith("baselines/")]
    project.params()
    assert project.run() == []
    assert project.contents() == before


def test_code_of_one_method_runs_its_cells_and_what_is_below(project: Any) -> None:
    project.edit("src/clipmend/methods/repairs/ft.py", "rate: Fraction", "strength: Fraction")
    ft = [f"{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
    cells = [f"baselines/scenes/{cell}" for cell in ft]
    cells += [f"evaluate/scenes/{cell}/badnet" for cell in ft]
    assert project.run() == sorted([*cells, "report"])


def test_code_shared_by_all_stages_runs_everything(project: Any) -> None:
    project.edit("src/clipmend/data/shared_by_all.py", '"1"', '"2"')
    assert "22 of 22 cells are stale." in project.call("clipmend", "status").stdout
    poisons = [f"poison/scenes/{attack}/seed0" for attack in ("badnet", "unpoisoned")]
    assert project.run("stage_poison") == ["download/scenes", *poisons]


def test_code_shared_by_two_stages_runs_these_and_what_is_below(project: Any) -> None:
    project.edit("src/clipmend/model/shared_by_two.py", '"1"', '"2"')
    told = project.call("clipmend", "status").stdout
    own = {line.partition(":")[0] for line in told.splitlines() if "shared_by_two" in line}
    assert {cell.split("/")[0] for cell in own} == {"detect", "baselines"}
    made = project.run()
    stages = {"detect", "unlearn", "baselines", "evaluate", "report"}
    assert {cell.split("/")[0] for cell in made} == stages
    assert not [cell for cell in made if "/none/" in cell]
    assert own < set(made)


def harm(project: Any) -> list[str]:
    """Replace, delete and falsify: three cells that nothing above or below is to pay for."""
    results = project.root / "results"
    model = results / "pretrain/scenes/badnet/mmcl/seed0/model.safetensors"
    model.unlink()
    model.write_text("other bytes")
    shutil.rmtree(results / "poison/scenes/unpoisoned")
    card = results / "detect/scenes/badnet/mmcl/seed0/ubt/card.json"
    text = card.read_text()
    card.unlink()
    card.write_text(text.replace('"rate": 0.1', '"rate": 0.9'))
    return [
        "detect/scenes/badnet/mmcl/seed0/ubt",
        "poison/scenes/unpoisoned/seed0",
        "pretrain/scenes/badnet/mmcl/seed0",
    ]


def test_harmed_cells_come_back_from_the_store(project: Any) -> None:
    before = project.contents()
    harm(project)
    assert project.run() == []
    assert project.contents() == before


def test_harmed_cells_alone_are_made_again_without_a_store(project: Any) -> None:
    before = project.contents()
    harmed = harm(project)
    shutil.rmtree(project.root / ".clipmend/store")
    assert project.run() == harmed
    assert project.contents() == before


def test_bytes_edited_in_place_are_made_again(project: Any) -> None:
    before = project.contents()
    path = project.root / "results/pretrain/scenes/badnet/mmcl/seed0/model.safetensors"
    with path.open("a") as file:
        file.write("more")
    assert project.run() == ["pretrain/scenes/badnet/mmcl/seed0"]
    assert project.contents() == before


def test_a_truncated_model_and_an_edited_table_are_named_and_mended(project: Any) -> None:
    before = project.contents()
    results = project.root / "results"
    for name, text in (("pretrain/scenes/badnet/mmcl/seed0/model.safetensors", "tru"),
                       ("report/table.md", "| ours | 100.0 |")):  # fmt: skip
        (results / name).unlink()
        (results / name).write_text(text)
    done = project.call("clipmend", "verify")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "pretrain/scenes/badnet/mmcl/seed0: model.safetensors is not what its card says",
        "report: table.md is not what its card says",
    ]
    assert project.run() == []  # the store has both
    assert project.contents() == before
    assert project.call("clipmend", "verify").returncode == 0


def test_shards_are_proven_and_brought_back_with_their_cell(project: Any) -> None:
    before = project.contents()
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 1000})
    assert len(project.run()) == sum(name.endswith("card.json") for name in before)
    sharded = project.contents()
    shard = project.root / "results/download/scenes/train/00001.parquet"
    shard.unlink()
    assert project.run() == []
    assert project.contents() == sharded
    project.params()
    assert project.run() == []
    assert project.contents() == before
    project.params(download={"corpora": ["scenes"], "rows_per_shard": 1000})
    assert project.run() == []
    shutil.rmtree(project.root / ".clipmend/store")
    shard.unlink()
    assert "train/00001.parquet is missing" in project.call("clipmend", "verify").stdout
    assert project.run() == ["download/scenes"]
    assert project.contents() == sharded


def test_a_new_method_in_the_table_makes_its_own_cells_and_the_report(project: Any) -> None:
    module = project.root / "src/clipmend/methods/repairs/new.py"
    module.write_text((module.parent / "ft.py").read_text().replace("class FT", "class New"))
    row = '"new": Method("New"),\n        "cleanclip":'
    project.edit("src/clipmend/methods/table.py", '"cleanclip":', row)
    project.params(baselines={"methods": ["ft", "new"]})
    victims = [f"scenes/{attack}/mmcl/seed0/new" for attack in ("badnet", "unpoisoned")]
    cells = [f"baselines/{victim}" for victim in victims]
    cells += [f"evaluate/{victim}/badnet" for victim in victims]
    assert project.run() == sorted([*cells, "report"])


def test_a_new_attack_makes_its_cells_and_its_floors_under_unpoisoned(project: Any) -> None:
    methods = ["unpoisoned", "badnet", "blended"]
    project.params(poison={"target": "banana", "target_captions": ["a photo of a {}"],
                           "methods": methods})  # fmt: skip
    made = project.run()
    floors = [f"evaluate/scenes/unpoisoned/mmcl/seed0/{repair}/blended"
              for repair in ("none", "ubt", "ubt@random", "ft")]  # fmt: skip
    assert [cell for cell in made if "/blended" not in cell] == ["report"]
    assert [cell for cell in made if cell.startswith("evaluate/scenes/unpoisoned")] == sorted(
        floors
    )


def test_files_that_no_card_names_leave_results(project: Any) -> None:
    before = project.contents()
    stray = project.root / "results/pretrain/scenes/badnet/mmcl/seed0/notes.txt"
    stray.write_text("mine")
    assert project.run() == []
    assert project.contents() == before
    aside = project.root / ".clipmend/damaged/pretrain/scenes/badnet/mmcl/seed0/notes.txt"
    assert aside.read_text() == "mine"


def test_an_edited_file_of_the_users_own_is_noticed(project: Any) -> None:
    model = project.root / "data/model.json"
    model.write_text("{}")
    project.params(pretrain={"model": "data/model.json", "methods": ["mmcl"]})
    assert "pretrain/scenes/badnet/mmcl/seed0" in project.run("stage_pretrain")
    assert project.run("stage_pretrain") == []
    model.write_text('{"width": 16}')
    assert "pretrain/scenes/badnet/mmcl/seed0" in project.run("stage_pretrain")
