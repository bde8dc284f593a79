"""Two processes train what one does, up to rounding, and refuse what would part them."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

WORKER = Path(__file__).with_name("rank_worker.py")
RANKS = 2
# In float64. A step of AdamW is of one size however small the gradient, so that weights to which
# rounding alone gives one move by it; eps keeps that below 1e-7.
TOLERANCE = 1e-6


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rank_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = _loaded()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what two processes have written, connected over loopback."""
    made = tmp_path_factory.mktemp("ranks")
    (made / "work").mkdir()
    worker.write(made)
    (made / "transformer.json").write_text(json.dumps(worker.TRANSFORMER))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    logs = [made / f"{rank}.log" for rank in range(RANKS)]
    files = [log.open("w") for log in logs]
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(made)],
            env=os.environ | given | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=file,
        )
        for rank, file in enumerate(files)
    ]
    try:
        codes = [process.wait(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
        for file in files:
            file.close()
    assert codes == [0] * RANKS, "\n".join(log.read_text()[-3000:] for log in logs)
    return made


@pytest.mark.parametrize("name", worker.RUNS)
def test_two_processes_train_what_one_does_with_the_joint_batch(folder: Path, name: str) -> None:
    model, curve = worker.trained(name, folder)
    alone = model.net.state_dict()
    together = torch.load(folder / f"{name}.0.pt", weights_only=True)
    losses = together.pop("losses").tolist()
    assert losses == pytest.approx([point.loss for point in curve], rel=TOLERANCE)
    for key, weight in alone.items():
        torch.testing.assert_close(together[key], weight, atol=TOLERANCE, rtol=0, msg=key)


def assert_same(folder: Path, one: str, other: str) -> None:
    first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in (one, other))
    assert all(first[key].equal(second[key]) for key in first)


@pytest.mark.parametrize("name", [*worker.RUNS, "left", "resumed"])
def test_all_ranks_end_with_the_same_bytes(folder: Path, name: str) -> None:
    assert_same(folder, f"{name}.0", f"{name}.1")


def test_ranks_killed_inside_an_epoch_go_on_to_the_bytes_of_an_undisturbed_run(
    folder: Path,
) -> None:
    assert_same(folder, "resumed.0", "mmcl.0")


def test_ranks_that_decode_their_share_train_what_those_do_that_hold_all_images(
    folder: Path,
) -> None:
    assert_same(folder, "left.0", "mmcl.0")


def test_ranks_with_other_data_are_refused_in_one_line(folder: Path) -> None:
    said = [(folder / f"other.{rank}.txt").read_text() for rank in range(RANKS)]
    assert said[0] == said[1]
    assert said[0].startswith("Rank 1 of 2 differs from rank 0 in its pairs; all must read")
    assert "\n" not in said[0]
