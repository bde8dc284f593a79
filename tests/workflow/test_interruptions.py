"""Kills, second runs and edits during a run: no half-made cell counts, and none is made twice."""

import os
import shutil
import signal
import time
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

SNAKEMAKE = ("snakemake", "--cores", "2", "all")


def hang(project: Any, stage: str = "baselines", command: tuple[str, ...] = SNAKEMAKE) -> Any:
    """Start a run of an edit whose jobs of one stage do not end, and return the process."""
    project.change_ft()
    (project.root / f"hang-{stage}").touch()
    process = project.start(*command)
    project.wait_for(stage)
    return process


def release(project: Any, process: Any, stage: str = "baselines") -> int:
    """Let the jobs end, and return the exit code of the run."""
    (project.root / f"hang-{stage}").unlink()
    return int(process.wait(timeout=120))


def test_a_killed_run_leaves_no_half_made_cell_and_is_continued(project: Any) -> None:
    process = hang(project)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not [name for name in project.contents() if name.startswith("baselines/")]
    release(project, process)
    (project.root / "ran.log").unlink()
    assert project.run() == project.branch("ft")
    assert project.run() == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SNAKEMAKE, SNAKEMAKE),
        (SNAKEMAKE, ("dvc", "repro")),
        (("dvc", "repro"), SNAKEMAKE),
    ],
)
def test_a_second_run_of_either_tool_is_refused_and_changes_nothing(
    project: Any, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    process = hang(project, command=first)
    before = project.contents()
    refused = project.call(*second)
    assert refused.returncode == 2 if second == SNAKEMAKE else refused.returncode != 0
    printed = refused.stdout + refused.stderr
    assert "Another run uses this folder (process " in printed
    assert "Traceback" not in printed
    assert project.contents() == before
    assert release(project, process) == 0
    assert project.ran() == project.branch("ft")
    assert project.repro() == []


def test_a_job_that_survives_its_run_is_not_made_twice(project: Any) -> None:
    process = hang(project)
    process.kill()  # the main process, without its jobs
    process.wait()
    second = project.start(*SNAKEMAKE)
    assert release(project, second) == 0
    assert project.ran() == project.branch("ft")
    assert project.run() == []


def test_parameters_that_are_edited_during_a_run_do_not_enter_it(project: Any) -> None:
    process = hang(project)
    project.params()
    release(project, process)
    project.ran()
    assert project.run() == []
    project.change_ft()
    assert project.run() == []


@pytest.mark.parametrize("edited", ["parameters", "code"])
def test_an_edit_during_the_last_stage_of_dvc_is_not_recorded_with_older_results(
    project: Any, edited: str
) -> None:
    process = hang(project, "report", ("dvc", "repro"))
    if edited == "parameters":
        project.params(report={"gallery": 7})
    else:
        project.edit("src/clipmend/stages/report.py", "rates[0] / 256", "rates[0] / 255")
    assert release(project, process, "report") != 0
    printed = project.printed.read_text()
    assert "was edited while this stage ran" in printed
    assert "Traceback" not in printed
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    assert "report" not in lock["stages"]
    project.ran()
    assert project.repro() == ["report"]
    assert not project.planned()
    assert "up to date" in project.succeed("dvc", "status")


def test_an_edit_while_a_stage_of_dvc_has_nothing_to_do_is_not_recorded(project: Any) -> None:
    shutil.copy(project.root / "params.yaml", project.root / "edit")
    project.edit("edit", "gallery: 6", "gallery: 7")
    with (project.root / "Snakefile").open("a") as file:  # which is read after the plan was made
        file.write("\nimport os\n\n")
        file.write("if os.path.exists('edit'):\n    os.rename('edit', 'params.yaml')\n")
    refused = project.call("dvc", "repro")
    assert refused.returncode != 0
    assert "was edited while this stage ran" in refused.stdout + refused.stderr
    assert project.ran() == []
    assert not (project.root / "dvc.lock").exists()
    assert project.repro() == ["report"]
    assert "up to date" in project.succeed("dvc", "status")


def test_a_second_run_is_refused_although_the_records_were_deleted(project: Any) -> None:
    process = hang(project)
    before = project.contents()
    shutil.rmtree(project.root / ".clipmend")
    refused = project.call("snakemake", "-n", "all")
    assert refused.returncode == 2
    assert "Another run uses this folder" in refused.stderr
    assert release(project, process) == 1  # its jobs are no longer sure to be alone
    assert project.contents() == before
    assert ".clipmend was deleted while this job ran" in printed_logs(project)
    project.ran()
    assert project.run() == project.branch("ft")
    assert project.run() == []


def test_a_job_whose_run_was_killed_notices_that_its_lock_was_deleted(project: Any) -> None:
    process = hang(project)
    process.kill()  # the main process, without its jobs
    process.wait()
    (project.root / ".clipmend").rename(project.root / "gone")
    (project.root / ".clipmend").mkdir()  # of `printed`
    second = project.start(*SNAKEMAKE)
    time.sleep(3)
    assert release(project, second) == 0
    cells = (project.root / "ran.log").read_text().split()
    assert sorted(set(cells)) == project.branch(
        "ft"
    )  # the second run made what the first had begun
    (project.root / "ran.log").unlink()
    project.succeed("clipmend", "verify")
    assert project.run() == []


def printed_logs(project: Any) -> str:
    return "".join(path.read_text() for path in (project.root / "logs").rglob("*.log"))


def test_code_that_is_edited_during_a_run_is_refused(project: Any) -> None:
    process = hang(project)
    project.edit(
        "src/clipmend/stages/evaluate.py", "digest.hexdigest()", "digest.hexdigest().upper()"
    )
    assert release(project, process) == 1
    printed = project.printed.read_text()
    assert "clipmend.stages.evaluate was edited after the plan was made" in printed
    evaluations = [cell for cell in project.branch("ft") if cell.startswith("evaluate/")]
    assert not project.contents().keys() & {f"{cell}/card.json" for cell in evaluations}
