"""A lock is held until its process ends, and names its process."""

from pathlib import Path

import pytest

from clipmend.engine import locks
from clipmend.errors import ArtifactError, BusyError, PlanError


def test_a_main_lock_that_is_held_is_refused_with_the_number_of_its_process(
    holder, monkeypatch
) -> None:
    monkeypatch.setattr(locks, "_held", {})
    with holder("locks.hold_main()") as other:
        with pytest.raises(BusyError, match=f"process {other.pid}"):
            locks.hold_main(patience=0.0)
        other.kill()
    locks.hold_main(patience=5.0)
    for file in locks._held.values():
        file.close()


def test_a_cell_is_free_again_when_its_job_was_killed(holder) -> None:
    assert locks.is_free("detect/x")
    with holder("held = locks.cell('detect/x'); held.__enter__()") as other:
        assert not locks.is_free("detect/x")
        assert locks.is_free("detect/y")
        other.kill()
    assert locks.is_free("detect/x")


@pytest.mark.parametrize("back", ["a new folder", "a link", "nothing"])
def test_a_job_notices_that_the_records_were_moved_away(tmp_path, monkeypatch, back) -> None:
    monkeypatch.chdir(tmp_path)
    with locks.cell("detect/x") as lock:
        locks.check("detect/x", lock)
        Path(".clipmend").rename("aside")
        if back == "a link":  # behind which the lock is still there
            Path(".clipmend").symlink_to("aside")
        elif back == "a new folder":
            Path(".clipmend").mkdir()
        with pytest.raises(ArtifactError if back == "a link" else PlanError):
            locks.check("detect/x", lock)
