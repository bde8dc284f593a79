"""A user's mistake is one line and exit code 2; a bug keeps its traceback."""

from collections.abc import Callable
from errno import EACCES, EDQUOT, ENOSPC
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import pytest

from clipmend import cli
from clipmend.engine import locks, runner, store
from clipmend.errors import MetricError
from clipmend.methods.table import STAGES


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
        (PermissionError(EACCES, "Permission denied", "report"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_an_error_of_a_stage_or_a_full_disk_is_one_line_and_no_other_error_is_hidden(
    call, monkeypatch, error, line
) -> None:
    monkeypatch.setattr(runner, "run", Mock(side_effect=error))
    if line is None:
        with pytest.raises(type(error)):
            call("report")
    else:
        assert call("report", status=2).startswith(f"clipmend: {line}")
