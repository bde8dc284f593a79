"""A folder to work in, and commands that run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clipmend import cli

Command = Callable[..., tuple[str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the working one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clipmend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command and returns what it printed and logged."""

    def run(*words: object, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["clipmend", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert stop.value.code == status, printed.err
        return printed.out, printed.err

    return run
