"""Evaluation: the numbers with their denominators, on `test`."""

import json
from typing import Any

from clipmend.data.sampling import sample
from clipmend.data.splits import load_split, read_vocabulary
from clipmend.engine.job import Input
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.model.clip import load
from clipmend.model.zero_shot import class_cosines, class_embeds
from tests.conftest import EVALUATE


def evaluated(world: Any, cell: str, corpus: Input, model: Input, trigger: Input) -> dict[str, Any]:
    made = world.run(cell, "", {"corpus": corpus, "model": model, "trigger": trigger})
    return dict(json.loads((made.folder / "metrics.json").read_text()))


def test_metrics_name_their_cell_and_have_definitions_and_denominators(
    world, corpus, poison, victim
) -> None:
    cell = "evaluate/tiny/badnet/mmcl/seed0/none/badnet"
    metrics = evaluated(world, cell, corpus, victim, poison)
    expected = {"corpus": "tiny", "attack": "badnet", "trigger": "badnet", "objective": "mmcl"}
    expected |= {"seed": 0, "stage": "pretrain", "method": "none", "target": "banana"}
    assert metrics | expected == metrics
    assert (metrics["control"], metrics["needs"]) == (False, [])
    test, vocabulary = load_split(corpus.folder, "test"), read_vocabulary(corpus.folder)
    own = test.label == vocabulary.label_of("banana")
    model = load(victim.folder)
    cosines = class_cosines(model, test.images, class_embeds(model, vocabulary))
    right = (cosines.argmax(dim=1) == test.label).double()
    assert metrics["clean_accuracy"]["n"] == len(test)
    assert metrics["clean_accuracy"]["value"] == right.mean().item()
    assert metrics["clean_accuracy_top5"]["value"] >= metrics["clean_accuracy"]["value"]
    assert metrics["target_accuracy"]["n"] == int(own.sum())
    assert metrics["target_accuracy"]["value"] == right[own].mean().item()
    assert metrics["attack_success_rate"]["n"] == int((~own).sum())
    assert metrics["robust_accuracy_eps2"]["n"] == 16
    assert metrics["adversarial_target_rate_eps2"]["n"] == int((~own[sample(test.ids, 16)]).sum())
    (trigger,) = read_triggers(poison)
    seen = class_cosines(model, trigger.on(test), class_embeds(model, vocabulary)).argmax(dim=1)
    expected = (seen == test.label)[~own].double().mean().item()
    assert metrics["triggered_accuracy"]["value"] == expected
    assert metrics["triggered_accuracy"]["n"] == metrics["attack_success_rate"]["n"]
    assert list(metrics["definitions"])[-1] == "triggered_accuracy"
    attacked = ("robust_accuracy", "adversarial_target_rate", "adversarial_trigger_cosine")
    assert set(metrics["definitions"]) == {
        *("clean_accuracy", "clean_accuracy_top5", "target_accuracy", "attack_success_rate"),
        "triggered_accuracy",
        *(f"{name}_eps2" for name in (*attacked, "adversarial_trigger_cosine_sideways")),
    }
    meaning = metrics["definitions"]["robust_accuracy_eps2"]
    assert "2/255, on 16 test images, the same for all, sampled by id" in meaning


def test_further_numbers_come_after_all_others_and_change_none(
    world, corpus, poison, victim
) -> None:
    cell = "evaluate/plain/badnet/mmcl/seed0/none/badnet"
    plain = evaluated(world, cell, corpus, victim, poison)
    inputs = {"corpus": corpus, "model": victim, "trigger": poison, "clean": victim}
    further = {"further": ["retrieval", "linear_probe", "tower_swap"]}
    again = "evaluate/further/badnet/mmcl/seed0/none/badnet"
    made = world.run(again, "", inputs, shared=EVALUATE | further)
    metrics = json.loads((made.folder / "metrics.json").read_text())
    recalls = [f"{way}_recall_{n}" for n in (1, 5) for way in ("image_to_text", "text_to_image")]
    probe = ["linear_probe_accuracy", "linear_probe_attack_success_rate"]
    kinds = ("accuracy", "attack_success_rate")
    swaps = [f"swap_{tower}_{kind}" for tower in ("image", "text") for kind in kinds]
    names = [*recalls, *probe, *swaps]
    assert [name for name in metrics if name not in plain] == names
    assert list(metrics["definitions"])[-len(names) :] == names
    assert {name: metrics[name] for name in plain if name not in ("corpus", "definitions")} == {
        name: plain[name] for name in plain if name not in ("corpus", "definitions")
    }
    # The clean model is the victim itself here: a swap of towers changes nothing.
    for name in kinds:
        for tower in ("image", "text"):
            same = metrics["clean_accuracy" if name == "accuracy" else name]["value"]
            assert abs(metrics[f"swap_{tower}_{name}"]["value"] - same) < 0.02
    assert metrics["image_to_text_recall_1"]["n"] == 64
    assert metrics["linear_probe_attack_success_rate"]["n"] == metrics["attack_success_rate"]["n"]


def test_controls_are_marked(world, corpus, poison, attacked, scored) -> None:
    inputs, settings = (
        attacked | {"detector": scored},
        {"choose": "oracle", "pairs": 8, "epochs": 1},
    )
    cell = "tiny/badnet/mmcl/seed0/ubt@oracle"
    repaired = world.run(f"unlearn/{cell}", "ubt@oracle", inputs, settings)
    metrics = evaluated(world, f"evaluate/{cell}/badnet", corpus, repaired, poison)
    assert (metrics["stage"], metrics["control"], metrics["needs"]) == ("unlearn", True, ["train"])
