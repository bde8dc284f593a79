"""`scripts/throughput.py` times what it says: whole windows, both loops, all parts of a step."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ARGUMENTS = {"model": "scene_resnet", "sizes": [32], "batch": [8], "pairs": 16, "device": "cpu"}
ARGUMENTS |= {"workers": 0, "rounds": 1, "window": 1, "steps": 2, "seconds": 0.0, "threads": 1}


@pytest.fixture(scope="module")
def throughput(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("throughput")


@pytest.fixture(scope="module")
def setting(throughput: ModuleType) -> Any:
    return next(throughput.settings_of(argparse.Namespace(**ARGUMENTS)))


def test_a_clock_leaves_the_warm_up_out_and_ends_the_turn(throughput: ModuleType) -> None:
    clock = throughput.Clock("cpu", window=3, seconds=0.0)
    for _ in range(throughput.WARM_UP + 1):
        clock.tick()
    assert len(clock.walls) == 1  # the first window begins
    with pytest.raises(throughput.EnoughError):
        for _ in range(100):
            clock.tick()
    assert clock.steps == throughput.WARM_UP + 1 + 2 * 3  # two windows at least
    assert clock.walls == sorted(clock.walls)


def test_both_loops_take_their_turn_with_the_same_weights(
    throughput: ModuleType, setting: Any
) -> None:
    before = [value.clone() for value in setting.net.state_dict().values()]
    batches = throughput.ready(setting)
    for turn in (throughput.ours, lambda s, c: throughput.theirs(s, c, throughput.cycle(batches))):
        clock = throughput.Clock("cpu", window=1, seconds=0.0)
        turn(setting, clock)
        assert len(clock.walls) == 3
    after = setting.net.state_dict().values()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.are_deterministic_algorithms_enabled()  # the other loop's flags were put back


def test_images_left_in_shards_are_those_in_memory(
    throughput: ModuleType, setting: Any, tmp_path: Path
) -> None:
    many = replace(setting, pairs=setting.pairs.take(torch.arange(300) % 16))
    many = replace(many, pairs=replace(many.pairs, ids=tuple(map(str, range(300)))))
    sharded = throughput.from_shards(many, throughput.write_shards(many, tmp_path))
    assert len(list((tmp_path / "train").iterdir())) == 2
    rows = torch.tensor([3, 0, 299])
    assert torch.equal(sharded.pairs.images[rows], many.pairs.images[rows])
    clock = throughput.Clock("cpu", window=1, seconds=0.0)
    throughput.ours(sharded, clock)
    assert len(clock.walls) == 3


def test_the_other_loop_sees_what_ours_does(throughput: ModuleType, setting: Any) -> None:
    images, tokens = throughput.ready(setting)[0]
    model = setting.clip().eval()
    with torch.no_grad():
        ours = model.encode_image(setting.pairs.images[:8])
        theirs = model.net.encode_image(images, normalize=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(tokens, model.tokenize(setting.pairs.captions[:8]))


def test_every_part_of_a_step_takes_some_of_it(throughput: ModuleType, setting: Any) -> None:
    parts = throughput.parts(setting, 2, prune_vocabulary=True)
    assert list(parts) == list(throughput.PARTS)
    assert all(seconds > 0 for seconds in parts.values())
    assert parts["backward"] > parts["loss"]


def test_the_tables_have_a_row_for_each_loop_and_none_for_one_without_memory(
    throughput: ModuleType,
) -> None:
    lacking = throughput.blank() | {"lacking": "out of memory"}
    timed = throughput.blank() | {"rates": [90.0, 110.0, 100.0], "per_core": [50.0, 60.0, 70.0]}
    run = {"size": 32, "batch": 8, "flops": 1e9, "turns": {"ours": timed, "theirs": lacking}}
    lines = "".join(throughput.rate_table([run], on_gpu=False)).splitlines()
    assert lines[2] == "| 32 | 8 | ours | 100 | 90 to 110 | 3 | 60 |"
    assert lines[3].startswith("| 32 | 8 | theirs | out of memory |")
    assert len({line.count("|") for line in lines}) == 1
    on_gpu = "".join(throughput.rate_table([run], on_gpu=True)).splitlines()
    assert len({line.count("|") for line in on_gpu}) == 1
