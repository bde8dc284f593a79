"""Two processes train the model that one process trains, up to rounding."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

WORKER = Path(__file__).with_name("rank_worker.py")
RANKS = 2
# In float64. A step of AdamW has the same size for every gradient, so that a weight moves by a full
# step where rounding alone makes its gradient; eps keeps that below 1e-7.
TOLERANCE = 1e-6


worker = SimpleNamespace(**runpy.run_path(str(WORKER)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of files that two processes wrote, connected over loopback."""
    path = tmp_path_factory.mktemp("ranks")
    (path / "work").mkdir()
    worker.write(path)
    (path / "transformer.json").write_text(json.dumps(worker.TRANSFORMER))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(path)],
            env=os.environ | variables | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        errors = [process.communicate(timeout=300)[1][-3000:] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * RANKS, "\n".join(errors)
    return path


@pytest.mark.parametrize("name", worker.RUNS)
def test_two_processes_train_the_model_of_one_process(folder, name) -> None:
    model, curve = worker.trained(name, folder)
    alone = model.net.state_dict()
    together = torch.load(folder / f"{name}.0.pt", weights_only=True)
    losses = together.pop("losses").tolist()
    assert losses == pytest.approx([point.loss for point in curve], rel=TOLERANCE)
    for key, weight in alone.items():
        torch.testing.assert_close(together[key], weight, atol=TOLERANCE, rtol=0, msg=key)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        *((f"{name}.0", f"{name}.1") for name in [*worker.RUNS, "encoded", "resumed"]),
        *((f"{name}.0", "mmcl.0") for name in ("resumed", "encoded")),
    ],
)
def test_all_ranks_have_the_same_bytes_also_after_a_kill_or_with_encoded_images(
    folder, name, other
) -> None:
    first, second = (torch.load(folder / f"{key}.pt", weights_only=True) for key in (name, other))
    assert all(first[key].equal(second[key]) for key in first)


def test_ranks_with_other_data_are_refused_in_one_line(folder) -> None:
    lines = [(folder / f"other.{rank}.txt").read_text() for rank in range(RANKS)]
    assert lines[0] == lines[1]
    assert lines[0].startswith("Rank 1 of 2 differs from rank 0 in its pairs; all must read")
    assert "\n" not in lines[0]
