"""What each switch of Snakemake and of DVC does here (the table in docs/reference/switches.md)."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

at_length = pytest.mark.skipif(
    "CLIPMEND_FAULTS" not in os.environ, reason="takes minutes: `make faults` runs it"
)
FAILING = '''

_make = run


def run(job: Job) -> None:
    """Fail for the unpoisoned victim."""
    if "unpoisoned" in job.cell:
        raise RuntimeError("no")
    _make(job)
'''


def assert_unchanged(project: Any, before: dict[str, bytes]) -> None:
    """Check that no cell was made again, and that none has another byte."""
    assert project.ran() == []
    assert project.contents() == before


@pytest.mark.parametrize(
    "switch",
    [
        ["--touch"],
        ["--summary"],
        ["--rerun-incomplete"],
        ["--forcerun", "report"],
        pytest.param(["--forceall"], marks=at_length),
        pytest.param(["--forcerun", "pretrain"], marks=at_length),
    ],
    ids=" ".join,
)
def test_a_switch_of_snakemake_that_repeats_or_lists_jobs_keeps_every_proven_byte(
    project: Any, switch: list[str]
) -> None:
    before = project.contents()
    project.succeed("snakemake", "--cores", "2", *switch, "--", "all")
    assert_unchanged(project, before)
    assert not project.planned()


def test_touch_proves_no_stale_cell(project: Any) -> None:
    project.change_ft()
    project.call("snakemake", "--cores", "2", "--touch", "all")
    assert project.ran() == []
    assert project.run() == project.branch("ft")


def test_until_makes_the_cells_of_that_stage_and_those_that_they_read(project: Any) -> None:
    project.change_ft()
    ran = project.run("--until", "baselines", "--", "all")
    assert ran == [name for name in project.branch("ft") if name.startswith("baselines/")]
    assert project.run() == [name for name in project.branch("ft") if name not in ran]


def test_deleted_outputs_come_back_from_the_store(project: Any) -> None:
    before = project.contents()
    project.succeed("snakemake", "--cores", "2", "--delete-all-output", "all")
    assert not [name for name in project.contents() if name.endswith("card.json")]
    project.run()
    assert project.contents() == before


def test_another_directory_is_another_project(project: Any, tmp_path: Path) -> None:
    before = project.contents()
    other = tmp_path / "other"
    done = project.call("snakemake", "-n", "--directory", str(other), "--", "all")
    assert done.returncode == 2
    assert "params.yaml does not exist in this folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.contents() == before
    assert not (other / "results").exists()


def test_keep_going_makes_all_cells_that_do_not_need_the_failed_one(project: Any) -> None:
    path = project.root / "src/clipmend/stages/baselines.py"
    path.write_text(path.read_text() + FAILING)
    done = project.call("snakemake", "--cores", "2", "--keep-going", "all")
    assert done.returncode == 1
    made = [name for name in project.branch("ft") if "badnet/mmcl" in name]
    assert project.ran() == made
    assert not any(name.startswith("report/") for name in project.contents())


@at_length
def test_switches_of_dvc_repeat_no_proven_cell(project: Any) -> None:
    before = project.contents()
    for switch in ([], ["--force"], ["--force", "--single-item", "report"]):
        project.succeed("dvc", "repro", *switch)
        assert_unchanged(project, before)
    project.change_ft()
    ran = [name for name in project.branch("ft") if name.startswith("baselines/")]
    project.succeed("dvc", "repro", "--single-item", "baselines")
    assert project.ran() == ran
    assert project.repro() == [name for name in project.branch("ft") if name not in ran]
    project.commit("two")
    project.succeed("dvc", "gc", "--workspace", "--force")
    assert not project.planned()
    project.succeed("clipmend", "verify")


@at_length
def test_an_experiment_of_dvc_makes_the_cells_of_its_edit(project: Any) -> None:
    project.repro()
    project.commit("two")
    project.succeed("dvc", "exp", "run", "-S", "evaluate.confidence=0.9")
    assert all(name.startswith(("evaluate/", "report")) for name in project.ran())
    asked = yaml.safe_load((project.root / "params.yaml").read_text())
    assert asked["evaluate"]["confidence"] == 0.9
    assert not project.planned()


@at_length
@pytest.mark.parametrize("mode", ["--temp", "--queue"])
def test_an_experiment_in_a_folder_of_its_own_leaves_this_one_and_is_proven_when_applied(
    project: Any, mode: str
) -> None:
    (project.root / "data/README.md").write_text("git keeps no empty folder")
    project.repro()
    project.commit("two")
    before = project.contents()
    project.succeed("dvc", "exp", "run", mode, "-n", "other", "-S", "evaluate.confidence=0.9")
    if mode == "--queue":
        assert_unchanged(project, before)
        project.succeed("dvc", "exp", "run", "--run-all", "--jobs", "1")
    assert_unchanged(project, before)
    assert not project.planned()
    project.succeed("dvc", "exp", "apply", "other")
    assert yaml.safe_load((project.root / "params.yaml").read_text())["evaluate"] == {
        "confidence": 0.9
    }
    changed = {name for name, data in project.contents().items() if before.get(name) != data}
    assert {name.split("/")[0] for name in changed} == {"evaluate", "report"}
    assert not project.planned()
    project.succeed("clipmend", "verify")


@at_length
def test_a_forced_commit_of_an_edited_result_is_noticed_and_undone(project: Any) -> None:
    project.repro()
    before = project.contents()
    path = project.root / "results/evaluate/scenes/badnet/mmcl/seed0/none/badnet/metrics.json"
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text + b" ")
    project.succeed("dvc", "commit", "--force")
    assert project.call("clipmend", "verify").returncode == 1
    project.run()
    assert project.contents() == before
    project.succeed("dvc", "commit", "--force")
    assert "up to date" in project.succeed("dvc", "status")
