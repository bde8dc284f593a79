"""A user's mistake is one line and exit code 2; a bug keeps its traceback."""

from errno import EACCES, EDQUOT, ENOSPC
from pathlib import Path

import pytest

from clipmend import cli
from clipmend.engine import runner
from clipmend.errors import MetricError


def test_a_mistake_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["clipmend", "detect", "scenes/badnet/mmcl/seed0/ubt"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err.startswith("clipmend: This folder has no plan yet; ")


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
    assert capsys.readouterr().err.startswith("clipmend: The disk that holds report is full. Make")


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
