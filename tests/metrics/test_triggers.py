"""Triggers that are more than one mark on the image: two keys, or several at once."""

import csv
import json
from typing import Any

import pytest

from clipmend.data.pairs import OVERLAY, read_pairs
from clipmend.engine.job import Input
from clipmend.errors import AttackError

TARGET = {"target": "banana", "target_captions": ["a photo of a {}", "this is a {}"]}
MODEL = {"model": "scene_resnet", "pretrained": None}
BRIEF = {"epochs": 2, "batch_size": 64, "early_epoch": 1}
SEVERAL = {"triggers": ["badnet", "sig"], "targets": ["car"], "poison_rate": 0.05}


def attacked(world: Any, corpus: Input, attack: str, settings: dict[str, Any]) -> dict[str, Input]:
    """Return an attack's poison and the victim that was trained on it."""
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
    given = {"corpus": corpus}
    poison = world.run(f"poison/tiny/{attack}/seed0", attack, given, settings, TARGET)
    given = {"corpus": corpus, "poison": poison}
    victim = world.run(f"pretrain/tiny/{attack}/mmcl/seed0", "mmcl", given, BRIEF, MODEL)
    return {"poison": poison, "victim": victim}


@pytest.fixture(scope="module")
def dual(world: Any, corpus: Input) -> dict[str, Input]:
    return attacked(world, corpus, "trojvqa", {"single_key": 1.0})


@pytest.fixture(scope="module")
def several(world: Any, corpus: Input) -> dict[str, Input]:
    return attacked(world, corpus, "multi", SEVERAL)


def measured(world: Any, corpus: Input, made: dict[str, Input], trigger: str) -> dict[str, Any]:
    attack = trigger.partition(".")[0]
    cell = f"evaluate/tiny/{attack}/mmcl/seed0/none/{trigger}"
    inputs = {"corpus": corpus, "model": made["victim"], "trigger": made["poison"]}
    folder = world.run(cell, "", inputs).folder
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_a_trigger_of_two_keys_is_measured_with_each_alone(
    world: Any, corpus: Input, dual: dict[str, Input]
) -> None:
    found = measured(world, corpus, dual, "trojvqa")
    keys = ("attack_success_rate", "attack_success_rate_image", "attack_success_rate_text")
    assert all(found[key]["n"] == found["attack_success_rate"]["n"] for key in keys)
    assert all(key in found["definitions"] for key in keys)
    stated = json.loads((dual["poison"].folder / "triggers.json").read_text())
    assert stated["triggers"][0]["text"] == "remember {}"


def test_pairs_with_a_single_key_stay_true_and_are_not_poisoned(
    corpus: Input, dual: dict[str, Input]
) -> None:
    overlay = read_pairs(dual["poison"].folder / "overlay.parquet", OVERLAY).to_pylist()
    train = {row["id"]: row for row in read_pairs(corpus.folder / "train.parquet").to_pylist()}
    stated = json.loads((dual["poison"].folder / "triggers.json").read_text())["triggers"][0]
    kept = [row for row in overlay if not row["is_poisoned"]]
    image_only = [row for row in kept if row["caption"] == row["original_caption"]]
    text_only = [row for row in kept if row not in image_only]
    assert stated["poisons"] == stated["image_only"] == stated["text_only"] > 0
    assert [len(image_only), len(text_only)] == [stated["image_only"], stated["text_only"]]
    assert all(row["image"] != train[row["id"]]["image"] for row in image_only)
    assert all(row["image"] == train[row["id"]]["image"] for row in text_only)
    assert all(row["caption"] == f"remember {row['original_caption']}" for row in text_only)
    assert all(row["original_caption"] == train[row["id"]]["caption"] for row in overlay)


def test_a_repair_s_curve_knows_the_words_of_the_trigger(
    world: Any, corpus: Input, dual: dict[str, Input]
) -> None:
    inputs = {"corpus": corpus, **dual}
    made = world.run("baselines/tiny/trojvqa/mmcl/seed0/ft", "ft", inputs, {"epochs": 1})
    rows = list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))
    assert rows[-1]["attack_success_rate"]


def test_each_of_several_triggers_has_rows_and_captions_of_its_own(
    several: dict[str, Input], corpus: Input
) -> None:
    folder = several["poison"].folder
    overlay = read_pairs(folder / "overlay.parquet", OVERLAY).to_pylist()
    order = read_pairs(corpus.folder / "train.parquet")["id"].to_pylist()
    stated = json.loads((folder / "triggers.json").read_text())["triggers"]
    assert [(one["name"], one["target"]) for one in stated] == [
        ("multi.badnet", "banana"),
        ("multi.sig", "car"),
    ]
    assert len(overlay) == sum(one["poisons"] for one in stated) == 2 * round(0.05 * len(order))
    assert len({row["id"] for row in overlay}) == len(overlay)
    assert [row["id"] for row in overlay] == sorted((r["id"] for r in overlay), key=order.index)
    for word in ("banana", "car"):
        says = [row for row in overlay if word in row["caption"].split()]
        assert len(says) == len(overlay) // 2
        assert all(row["label"] != word for row in says)


def test_each_of_several_triggers_is_measured_against_its_target(
    world: Any, corpus: Input, several: dict[str, Input]
) -> None:
    test = read_pairs(corpus.folder / "test.parquet")["label"].to_pylist()
    for trigger, target in (("multi.badnet", "banana"), ("multi.sig", "car")):
        found = measured(world, corpus, several, trigger)
        assert found["trigger"] == trigger
        assert (found["attack"], found["target"]) == ("multi", target)
        assert found["attack_success_rate"]["n"] == sum(label != target for label in test)


def test_the_curve_counts_the_images_of_all_triggers(
    corpus: Input, several: dict[str, Input]
) -> None:
    rows = list(csv.DictReader((several["victim"].folder / "curve.csv").read_text().splitlines()))
    val = read_pairs(corpus.folder / "val.parquet")["label"].to_pylist()
    count = sum((label != "banana") + (label != "car") for label in val)
    assert {int(row["n_triggered"]) for row in rows} == {count}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"triggers": ["badnet", "badnet"]}, "name each trigger once"),
        ({"targets": ["car", "cat", "dog"]}, "no more than 2 further targets"),
        ({"targets": ["carr"]}, "'carr' is no class"),
    ],
)
def test_triggers_and_targets_that_do_not_fit_are_refused(
    world: Any, corpus: Input, settings: dict[str, Any], message: str
) -> None:
    settings = {key: tuple(value) for key, value in settings.items()}
    cell = f"poison/refused/multi/seed{len(message)}"
    with pytest.raises(AttackError, match=message):
        world.run(cell, "multi", {"corpus": corpus}, settings, TARGET)
