"""A job sees a GPU that no other job of the folder holds."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from clipmend.engine import gpus, locks


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[Path]:
    """Run the test in a folder of its own, on a machine with three GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "_held", {})
    monkeypatch.setenv(gpus.VISIBLE, "")  # so that the value of a test is removed after it
    monkeypatch.delenv(gpus.VISIBLE)
    monkeypatch.setattr(gpus, "DEVICES", tmp_path / "dev")
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl"):
        (tmp_path / "dev" / name).touch()
    yield tmp_path
    for file in locks._held.values():
        file.close()


def test_a_job_sees_the_first_gpu_that_no_other_job_holds(holder) -> None:
    with holder(f"locks.hold('{platform.node()}-gpu0')") as other:
        gpus.claim()
        other.communicate()
    assert os.environ[gpus.VISIBLE] == "1"


@pytest.mark.parametrize("is_free", [True, False])
def test_a_job_of_two_gpus_holds_them_or_shares_those_that_are_held(monkeypatch, is_free) -> None:
    if not is_free:
        monkeypatch.setattr(locks, "hold", lambda _: False)
    gpus.claim(2)
    assert os.environ[gpus.VISIBLE] == "0,1"
    assert not locks.hold(f"{platform.node()}-gpu1")


def test_a_choice_of_the_user_is_kept(monkeypatch) -> None:
    monkeypatch.setenv(gpus.VISIBLE, "7")
    gpus.claim()
    assert os.environ[gpus.VISIBLE] == "7"


def test_a_single_gpu_is_not_chosen(machine) -> None:
    for name in ("nvidia1", "nvidia2"):
        (machine / "dev" / name).unlink()
    gpus.claim()
    assert gpus.VISIBLE not in os.environ
