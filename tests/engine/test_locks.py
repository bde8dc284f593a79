"""A lock is held until its process ends, and names its process."""

import subprocess
import sys
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from clipmend.engine import locks
from clipmend.errors import BusyError

HOLD = (
    "import sys; from clipmend.engine import locks; {}; print('held', flush=True); sys.stdin.read()"
)


def holder(folder: Path, statement: str) -> subprocess.Popen[str]:
    """Return another process that holds a lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(statement)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_main_lock_that_is_held_is_refused_with_the_number_of_its_process(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_held", {})
    with holder(tmp_path, "locks.hold_main()") as other:
        with pytest.raises(BusyError, match=f"process {other.pid}"):
            locks.hold_main(patience=0.0)
        other.kill()
    locks.hold_main(patience=5.0)
    for file in locks._held.values():
        file.close()


def test_a_cell_is_free_again_when_its_job_was_killed(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locks.is_free("detect/x")
    with holder(tmp_path, "held = locks.cell('detect/x'); held.__enter__()") as other:
        assert not locks.is_free("detect/x")
        assert locks.is_free("detect/y")
        other.kill()
    assert locks.is_free("detect/x")
