"""A user's mistake is one line and exit code 2; a bug keeps its traceback."""

import os
from collections.abc import Callable
from errno import EACCES, EDQUOT, ENOENT, ENOLCK, ENOSPC
from importlib.metadata import version
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from unittest.mock import Mock

import pytest
from safetensors import SafetensorError
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan

from clipmend import cli
from clipmend.engine import locks, plan, runner, store
from clipmend.engine.snakemake import Flow
from clipmend.errors import MetricError, line_of
from clipmend.methods.table import STAGES
from clipmend.tools import preset


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs a command in an empty folder, and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, status: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["/usr/bin/whatever", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return call


def test_a_mistake_is_one_line_and_exit_2(call) -> None:
    line = call("detect", "scenes/badnet/mmcl/seed0/ubt", status=2)
    assert line.startswith("clipmend: This folder has no plan yet; ")


def test_the_help_names_the_program_and_lists_the_stages_after_the_commands_for_users(call) -> None:
    text = call("--help")
    assert "Usage: clipmend" in text
    users, stages = text.split("Pipeline stages (called by Snakemake)")
    assert all(f" {name} " in users for name in ("status", "estimate", "audit", "prune", "mend"))
    assert all(f" {name} " in stages for name in STAGES)


def test_the_version_is_that_of_the_package(call) -> None:
    assert call("--version") == f"clipmend {version('clipmend')}\n"


def test_prune_deletes_nothing_without_a_yes(call, tmp_path, monkeypatch) -> None:
    stored = tmp_path / store.STORE / "a-key"
    stored.mkdir(parents=True)
    monkeypatch.setattr(locks, "hold_main", lambda: None)
    monkeypatch.setattr("sys.stdin", StringIO())
    call("prune", status=2)
    answers = StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    assert "Delete stored and damaged cells of every age?" in call("prune", status=1)
    assert stored.is_dir()
    assert call("prune", "--yes").startswith("Deleted 1 stored cells")
    assert not stored.is_dir()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MetricError("It is not defined."), "It is not defined.\n"),
        *(
            (OSError(number, "No space left", "report"), "The disk that holds report is full. Free")
            for number in (ENOSPC, EDQUOT)
        ),
        (
            PermissionError(EACCES, "Permission denied", "x"),
            "x cannot be used: Permission denied; ",
        ),
        (FileNotFoundError(ENOENT, "No such file", "x"), "x cannot be used: No such file; a file "),
        (
            SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
            "The disk is full. Free",
        ),
        (
            SafetensorError("I/O error: Permission denied (os error 13)"),
            "A file cannot be used: I/O error: Permission denied (os error 13); change its permi",
        ),
        (SafetensorError("Error while deserializing header"), None),
        (OSError("odd"), "A file cannot be used: odd; "),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"), "A file or a name is not UTF-8 text ("),
        (ZeroDivisionError(), None),
        (ValueError(), None),
    ],
)
def test_an_error_of_a_stage_or_of_the_users_files_is_one_line_and_no_bug_is_hidden(
    call, monkeypatch, error, line
) -> None:
    monkeypatch.setattr(runner, "run", Mock(side_effect=error))
    if line is None:
        with pytest.raises(type(error)):
            call("report")
    else:
        printed = call("report", status=2)
        assert printed.startswith(f"clipmend: {line}")
        assert printed.count("\n") == 1


def test_the_snakefile_says_the_same_in_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr("os._exit", Mock(side_effect=SystemExit(2)))
    monkeypatch.setattr("os.environ", dict(os.environ))
    for error in (PermissionError(EACCES, "Permission denied", "café"), UnicodeError("bad")):
        monkeypatch.setattr(plan, "arrange", Mock(side_effect=error))
        with pytest.raises(SystemExit):
            Flow(Mock(is_main_process=True), {})
        assert capsys.readouterr().err == f"clipmend: {line_of(error)}\n"


def test_a_forced_rule_is_told_that_it_repeats_nothing(monkeypatch, capsys) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr(plan, "arrange", Mock())
    for forced, told in (({"detect"}, True), (set(), False)):
        workflow = Mock(is_main_process=True)
        workflow.dag_settings = Mock(forcerun=forced, forceall=False)
        Flow(workflow, {}).begin()
        assert ("`clipmend verify --rerun N`" in capsys.readouterr().err) is told


def test_only_the_default_limit_of_job_starts_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr(plan, "arrange", Mock())
    for text, is_dropped in (("100/1s", True), ("5/1m", False)):
        limiter = JobRateLimiter(MaxJobsPerTimespan.parse_choice(text))
        workflow = Mock(is_main_process=True)
        workflow.scheduler.job_rate_limiter = limiter
        Flow(workflow, {}).begin()
        assert (workflow.scheduler.job_rate_limiter is None) is is_dropped


def test_a_file_system_without_locks_is_one_line(call, monkeypatch) -> None:
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(ENOLCK, "No locks available")))
    line = call("prune", "--yes", status=2)
    assert "cannot be locked (No locks available): its file system has no flock." in line
    assert line.count("\n") == 1


def test_letters_that_the_terminal_lacks_are_replaced(monkeypatch) -> None:
    terminal = TextIOWrapper(BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.argv", ["clipmend", "preset"])
    monkeypatch.setattr(preset, "listing", lambda: "it\u2019s \udce9")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    terminal.flush()
    assert stop.value.code == 0
    assert terminal.buffer.getvalue() == b"it?s ?\n"
