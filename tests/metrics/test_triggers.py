"""Attacks with a key in the caption, and attacks with several triggers."""

import json
from typing import Any

import pytest

from clipmend.data.pairs import read_pairs
from clipmend.engine.job import Input
from clipmend.errors import AttackError

BRIEF = {"epochs": 2, "batch_size": 64, "early_epoch": 1}
SEVERAL = {"triggers": ("badnet", "sig"), "targets": ("car",), "poison_rate": 0.05}
Inputs = dict[str, Input]


def attacked_by(world: Any, corpus: Input, attack: str, settings: dict[str, Any]) -> Inputs:
    """Return the corpus, the poison of an attack and the victim that was trained on it."""
    inputs = {"corpus": corpus}
    inputs["poison"] = world.run(f"poison/tiny/{attack}/seed0", attack, inputs, settings)
    victim = world.run(f"pretrain/tiny/{attack}/mmcl/seed0", "mmcl", inputs, BRIEF)
    return inputs | {"victim": victim}


@pytest.fixture(scope="module")
def dual(world: Any, corpus: Input) -> Inputs:
    return attacked_by(world, corpus, "trojvqa", {"single_key": 1.0})


@pytest.fixture(scope="module")
def several(world: Any, corpus: Input) -> Inputs:
    return attacked_by(world, corpus, "multi", SEVERAL)


def measured(world: Any, inputs: Inputs, trigger: str) -> dict[str, Any]:
    attack = trigger.partition(".")[0]
    cell = f"evaluate/tiny/{attack}/mmcl/seed0/none/{trigger}"
    roles = {"corpus": inputs["corpus"], "model": inputs["victim"], "trigger": inputs["poison"]}
    path = world.run(cell, "", roles).folder / "metrics.json"
    return dict(json.loads(path.read_text()))


def test_a_trigger_of_two_keys_is_measured_with_each_key_alone(world, dual) -> None:
    metrics = measured(world, dual, "trojvqa")
    names = ("attack_success_rate", "attack_success_rate_image", "attack_success_rate_text")
    assert all(metrics[name]["n"] == metrics["attack_success_rate"]["n"] for name in names)
    assert all(name in metrics["definitions"] for name in names)
    (trigger,) = json.loads((dual["poison"].folder / "triggers.json").read_text())["triggers"]
    assert trigger["text"] == "remember {}"


def test_the_curve_of_a_repair_measures_a_trigger_with_a_key_in_the_caption(world, dual) -> None:
    repaired = world.run("baselines/tiny/trojvqa/mmcl/seed0/ft", "ft", dual, {"epochs": 1})
    assert world.curve(repaired)[-1]["attack_success_rate"]


def test_each_of_several_triggers_is_measured_against_its_target(world, corpus, several) -> None:
    test = read_pairs(corpus.folder / "test.parquet")["label"].to_pylist()
    for trigger, target in (("multi.badnet", "banana"), ("multi.sig", "car")):
        metrics = measured(world, several, trigger)
        expected = ("multi", trigger, target)
        assert (metrics["attack"], metrics["trigger"], metrics["target"]) == expected
        assert metrics["attack_success_rate"]["n"] == sum(label != target for label in test)


def test_the_curve_counts_the_images_of_all_triggers(world, corpus, several) -> None:
    val = read_pairs(corpus.folder / "val.parquet")["label"].to_pylist()
    count = sum((label != "banana") + (label != "car") for label in val)
    assert {int(row["n_triggered"]) for row in world.curve(several["victim"])} == {count}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"triggers": ("badnet", "badnet")}, "Name each trigger once"),
        ({"targets": ("car", "cat", "dog")}, "at most 2 further targets"),
        ({"targets": ("carr",)}, "'carr' is not a class"),
    ],
)
def test_wrong_triggers_and_targets_are_refused(world, corpus, settings, message) -> None:
    cell = f"poison/refused/multi/seed{len(message)}"
    with pytest.raises(AttackError, match=message):
        world.run(cell, "multi", {"corpus": corpus}, settings)
