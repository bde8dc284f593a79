"""Kills, second runs, edits in mid-run: nothing half-made counts, and nothing is made twice."""

import os
import signal
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EDITED = {"methods": ["ft"], "settings": {"ft": {"rate": 0.7}}}
FT = [f"baselines/scenes/{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
BELOW = [f"evaluate/scenes/{attack}/mmcl/seed0/ft/badnet" for attack in ("badnet", "unpoisoned")]


def hang(project: Any, stage: str) -> Any:
    """Begin a run of an edit whose jobs of one stage do not end, and return the process."""
    project.params(baselines=EDITED)
    (project.root / f"hang-{stage}").touch()
    process = project.start("snakemake", "--cores", "2", "all")
    project.wait_for(stage)
    return process


def release(project: Any, stage: str) -> None:
    (project.root / f"hang-{stage}").unlink()


def test_a_killed_run_leaves_nothing_half_made_and_goes_on(project: Any) -> None:
    process = hang(project, "baselines")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not [name for name in project.contents() if name.startswith("baselines/")]
    release(project, "baselines")
    (project.root / "ran.log").unlink()
    assert project.run() == sorted([*FT, *BELOW, "report"])
    assert project.run() == []


def test_a_second_run_is_refused_by_name_and_changes_nothing(project: Any) -> None:
    process = hang(project, "baselines")
    before = project.contents()
    second = project.call("snakemake", "--cores", "1", "all")
    assert second.returncode == 2
    assert "Another run works on this folder (process " in second.stderr
    assert "Traceback" not in second.stderr
    assert project.contents() == before
    release(project, "baselines")
    process.wait(timeout=120)
    assert process.returncode == 0


def test_dvc_is_refused_by_name_while_snakemake_runs(project: Any) -> None:
    process = hang(project, "baselines")
    second = project.call("dvc", "repro")
    assert second.returncode != 0
    assert "Another run works on this folder (process " in second.stdout + second.stderr
    release(project, "baselines")
    assert process.wait(timeout=120) == 0
    (project.root / "ran.log").unlink()
    assert project.repro() == []


def test_snakemake_is_refused_while_dvc_runs_and_no_cell_is_made_twice(project: Any) -> None:
    project.params(baselines=EDITED)
    (project.root / "hang-baselines").touch()
    process = project.start("dvc", "repro")
    project.wait_for("baselines")
    second = project.call("snakemake", "--cores", "1", "all")
    assert second.returncode == 2
    assert "Another run works on this folder (process " in second.stderr
    release(project, "baselines")
    assert process.wait(timeout=120) == 0
    cells = (project.root / "ran.log").read_text().split()
    assert sorted(cells) == sorted([*FT, *BELOW, "report"])


def test_a_job_that_outlived_its_run_is_not_made_twice(project: Any) -> None:
    process = hang(project, "baselines")
    process.kill()  # the main process alone
    process.wait()
    second = project.start("snakemake", "--cores", "2", "all")
    release(project, "baselines")
    second.wait(timeout=120)
    assert second.returncode == 0
    cells = (project.root / "ran.log").read_text().split()
    assert sorted(cells) == sorted([*FT, *BELOW, "report"])
    (project.root / "ran.log").unlink()
    assert project.run() == []


def test_parameters_edited_while_a_run_goes_on_do_not_mix_into_it(project: Any) -> None:
    process = hang(project, "baselines")
    project.params()
    release(project, "baselines")
    process.wait(timeout=120)
    (project.root / "ran.log").unlink()
    assert project.run() == []
    project.params(baselines=EDITED)
    assert project.run() == []


def test_code_edited_while_a_run_goes_on_is_refused(project: Any) -> None:
    process = hang(project, "baselines")
    project.edit("src/clipmend/stages/evaluate.py", "made.hexdigest()", "made.hexdigest().upper()")
    release(project, "baselines")
    assert process.wait(timeout=120) == 1
    printed = project.printed.read_text()
    assert "clipmend.stages.evaluate was edited after the plan was made" in printed
    assert not [n for n in project.contents() if n in [f"{cell}/card.json" for cell in BELOW]]
