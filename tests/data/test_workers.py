import os
import signal

import numpy as np
import pytest
import torch

from clipmend.data import workers
from clipmend.data.pairs import table_of, write_pairs
from clipmend.data.splits import load_split
from clipmend.errors import PairsError
from clipmend.methods.sources.scenes import Scenes


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """Let a few rows count as many, and this machine have three cores."""
    monkeypatch.setattr(workers, "_FEW", 10)
    monkeypatch.setattr(workers, "_PART", 7)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1, 2})


def test_parts_come_back_in_order_and_cover_every_row_once():
    parts = list(workers.spread(lambda rows: list(rows), 40))

    assert [row for part in parts for row in part] == list(range(40))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 7, 5]


def test_what_a_process_writes_into_shared_memory_is_seen_here():
    memory = workers.shared((40, 2))

    def write(rows):
        memory[rows.start : rows.stop] = np.arange(rows.start, rows.stop)[:, None]

    assert list(workers.spread(write, 40)) == [None] * 6
    assert (memory == np.arange(40)[:, None]).all()


def test_a_corpus_drawn_and_decoded_by_many_processes_is_that_of_one(tmp_path, monkeypatch):
    scenes = Scenes(train=40, image_size=16)
    drawn = scenes.split("train")
    write_pairs(drawn, tmp_path / "train.parquet")
    (tmp_path / "classes.json").write_text(
        '{"classes": ["apple", "banana"], "prompts": ["a {}"], "image_size": 16}'
    )
    decoded = load_split(tmp_path, "train")
    monkeypatch.setattr(workers, "_FEW", 1000)

    assert scenes.split("train").equals(drawn)
    assert torch.equal(load_split(tmp_path, "train").images, decoded.images)


def test_a_truncated_image_is_named_by_its_row_from_whichever_process_met_it(tmp_path):
    drawn = Scenes(train=40, image_size=16).split("train").to_pydict()
    drawn["image"][33] = drawn["image"][33][:60]
    write_pairs(table_of(drawn), tmp_path / "train.parquet")
    (tmp_path / "classes.json").write_text(
        '{"classes": ["apple", "banana"], "prompts": ["a {}"], "image_size": 16}'
    )

    with pytest.raises(PairsError, match="train-000033"):
        load_split(tmp_path, "train")


def test_a_process_that_is_killed_is_one_line_and_not_waited_for_forever():
    def die(rows):
        if 21 in rows:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PairsError, match=r"One of 3 processes .* on 40 rows was killed"):
        list(workers.spread(die, 40))


def test_processes_that_train_one_model_share_the_cores_of_their_machine(monkeypatch):
    assert workers.cores() == 3
    told = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (told | {"LOCAL_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    assert workers.cores() == 1
