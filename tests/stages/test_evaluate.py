"""Evaluation: the numbers with their denominators, on `test`."""

import json
from typing import Any

from clipmend.data.sampling import sample
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.model.clip import load
from clipmend.model.zero_shot import class_cosines, class_embeds


def test_metrics_name_their_cell_and_have_definitions_and_denominators(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    inputs = {"corpus": corpus, "model": victim, "trigger": poison}
    cell = "evaluate/tiny/badnet/mmcl/seed0/none/badnet"
    made = world.run(cell, "", inputs)
    metrics = json.loads((made.folder / "metrics.json").read_text())
    keys = ("corpus", "attack", "trigger", "objective", "seed", "stage", "method")
    assert [metrics[key] for key in keys] == [
        "tiny",
        "badnet",
        "badnet",
        "mmcl",
        0,
        "pretrain",
        "none",
    ]
    assert (metrics["control"], metrics["needs"], metrics["target"]) == (False, [], "banana")
    test = load_split(corpus.folder, "test")
    vocabulary = read_vocabulary(corpus.folder)
    targets = int((test.label == vocabulary.label_of("banana")).sum())
    assert metrics["clean_accuracy"]["n"] == len(test)
    assert metrics["attack_success_rate"]["n"] == len(test) - targets
    model = load(victim.folder)
    predicted = class_cosines(model, test.images, class_embeds(model, vocabulary)).argmax(dim=1)
    assert metrics["clean_accuracy"]["value"] == (predicted == test.label).double().mean().item()
    own = test.label == vocabulary.label_of("banana")
    assert metrics["target_accuracy"]["n"] == targets
    assert metrics["target_accuracy"]["value"] == (
        (predicted[own] == test.label[own]).double().mean().item()
    )
    assert metrics["clean_accuracy_top5"]["value"] >= metrics["clean_accuracy"]["value"]
    assert set(metrics["definitions"]) == {
        "clean_accuracy",
        "clean_accuracy_top5",
        "target_accuracy",
        "attack_success_rate",
        "robust_accuracy_eps2",
        "adversarial_target_rate_eps2",
        "adversarial_trigger_cosine_eps2",
        "adversarial_trigger_cosine_sideways_eps2",
    }
    assert metrics["robust_accuracy_eps2"]["n"] == 16
    meaning = metrics["definitions"]["robust_accuracy_eps2"]
    assert "2/255, on 16 test images, the same for all, sampled by id" in meaning
    sampled = test.label[sample(test.ids, 16)]
    others = int((sampled != vocabulary.label_of("banana")).sum())
    assert metrics["adversarial_target_rate_eps2"]["n"] == others


def test_controls_are_marked(
    world: Any, corpus: Input, poison: Input, victim: Input, scored: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim, "detector": scored}
    settings = {"choose": "oracle", "pairs": 8, "epochs": 1}
    repaired = world.run(
        "unlearn/tiny/badnet/mmcl/seed0/ubt@oracle", "ubt@oracle", inputs, settings
    )
    cell = "evaluate/tiny/badnet/mmcl/seed0/ubt@oracle/badnet"
    read = {"corpus": corpus, "model": repaired, "trigger": poison}
    made = world.run(cell, "", read)
    metrics = json.loads((made.folder / "metrics.json").read_text())
    assert (metrics["stage"], metrics["control"], metrics["needs"]) == ("unlearn", True, ["train"])
