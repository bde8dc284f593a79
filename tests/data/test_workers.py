"""Work on many rows by several processes gives the results of a single process."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytest import MonkeyPatch

from clipmend.data import workers
from clipmend.data.pairs import table_of
from clipmend.data.splits import load_split
from clipmend.errors import PairsError
from clipmend.methods.sources.scenes import Scenes

SCENES = Scenes(train=40, image_size=16)


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: MonkeyPatch) -> None:
    """Let 40 rows count as many, and this machine have three cores."""
    monkeypatch.setattr(workers, "_FEW", 10)
    monkeypatch.setattr(workers, "_PART", 7)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1, 2})


def test_parts_are_in_order_and_have_every_row_once() -> None:
    parts = list(workers.spread(lambda rows: list(rows), 40))
    assert [row for part in parts for row in part] == list(range(40))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 7, 5]


def test_the_parent_sees_what_its_processes_write_into_shared_memory() -> None:
    memory = workers.shared((40, 2))

    def write(rows: range) -> None:
        memory[rows.start : rows.stop] = np.arange(rows.start, rows.stop)[:, None]

    assert list(workers.spread(write, 40)) == [None] * 6
    assert (memory == np.arange(40)[:, None]).all()


def test_a_corpus_is_rendered_and_decoded_alike_by_several_processes_and_by_one(
    tmp_path: Path, monkeypatch: MonkeyPatch, write_corpus: Any
) -> None:
    pairs = SCENES.split("train")
    decoded = load_split(write_corpus(tmp_path, pairs, 16), "train")
    monkeypatch.setattr(workers, "_FEW", 1000)
    assert SCENES.split("train").equals(pairs)
    assert torch.equal(load_split(tmp_path, "train").images, decoded.images)


@pytest.mark.parametrize("few", [10, 1000])
def test_a_truncated_image_is_named_by_its_row(
    tmp_path: Path, monkeypatch: MonkeyPatch, write_corpus: Any, few: int
) -> None:
    monkeypatch.setattr(workers, "_FEW", few)
    columns = SCENES.split("train").to_pydict()
    columns["image"][33] = columns["image"][33][:60]
    with pytest.raises(PairsError, match="train-000033"):
        load_split(write_corpus(tmp_path, table_of(columns), 16), "train")


def test_a_killed_process_ends_the_work_with_an_error_of_one_line() -> None:
    def die(rows: range) -> None:
        if 21 in rows:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PairsError, match=r"One of 3 processes .* on 40 rows was killed"):
        list(workers.spread(die, 40))


def test_processes_that_train_one_model_share_the_cores(monkeypatch: MonkeyPatch) -> None:
    assert workers.cores() == 3
    ranks = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (ranks | {"LOCAL_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    assert workers.cores() == 1
