"""A user's mistake is one line and exit code 2; a bug keeps its traceback."""

from errno import EACCES, EDQUOT, ENOSPC
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import pytest

from clipmend import cli
from clipmend.engine import locks, runner, store
from clipmend.errors import MetricError
from clipmend.methods.table import STAGES


def test_a_mistake_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["clipmend", "detect", "scenes/badnet/mmcl/seed0/ubt"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err.startswith("clipmend: This folder has no plan yet; ")


def run(
    patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], *words: str, status: int = 0
) -> str:
    """Run a command that must end with ``status``; return what it printed."""
    patch.setattr("sys.argv", ["/usr/bin/whatever", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == status
    said = capture.readouterr()
    return said.out + said.err


def test_the_help_names_the_program_and_lists_the_stages_after_the_commands_for_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(monkeypatch, capsys, "--help")
    assert "Usage: clipmend" in text
    users, stages = text.split("Pipeline stages (called by Snakemake)")
    assert all(f" {name} " in users for name in ("status", "estimate", "audit", "prune", "mend"))
    assert all(f" {name} " in stages for name in STAGES)


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, capsys, "--version") == f"clipmend {version('clipmend')}\n"


def test_prune_deletes_nothing_without_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / store.STORE / "a-key"
    stored.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "hold_main", lambda: None)
    monkeypatch.setattr("sys.stdin", StringIO())
    run(monkeypatch, capsys, "prune", status=2)
    assert stored.is_dir()
    answers = StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    assert "Delete stored and damaged cells of every age?" in run(
        monkeypatch, capsys, "prune", status=1
    )
    assert stored.is_dir()
    assert run(monkeypatch, capsys, "prune", "--yes").startswith("Deleted 1 stored cells")
    assert not stored.is_dir()


def test_an_error_of_a_stage_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str) -> None:
        raise MetricError(f"{name} is not defined.")

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["clipmend", "report"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == "clipmend: report is not defined.\n"


@pytest.mark.parametrize("number", [ENOSPC, EDQUOT])
def test_a_full_disk_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def run(name: str) -> None:
        raise OSError(number, "No space left on device", name)

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["clipmend", "report"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err.startswith("clipmend: The disk that holds report is full. Free")


def test_another_error_of_the_system_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str) -> None:
        raise PermissionError(EACCES, "Permission denied", name)

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["clipmend", "report"])
    with pytest.raises(PermissionError):
        cli.main()


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str) -> None:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr("sys.argv", ["clipmend", "report"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
