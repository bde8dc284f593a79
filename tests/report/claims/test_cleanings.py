"""The runs of CleanCLIP: their changed settings, their starts and their epochs."""

import pandas as pd

from clipmend.report.claims.cleanings import best_below, cleanings

USUAL = {"lr": 1e-2, "mmcl_weight": 1.0, "ssl_weight": 1.0, "weight_decay": 0.1, "shrink": 1.0}


def clean(tree, variant, *rates, attack="badnet", start=(0.9, 0.95), **settings):
    """Write a run whose epochs have these CA and ASR, after the victim's own."""
    name = f"cleanclip@{variant}" if variant else "cleanclip"
    cell = f"baselines/scenes/{attack}/mmcl/seed0/{name}"
    folder = tree.cell(cell, name, USUAL | settings)
    curve = pd.DataFrame([start, *rates], columns=["clean_accuracy", "attack_success_rate"])
    curve.assign(epoch=range(len(curve))).to_csv(folder / "curve.csv", index=False)


def by_method(tree):
    return {run.method.partition("@")[2]: run for run in cleanings(tree.inputs)}


def test_a_run_names_its_loss_and_the_settings_that_differ_from_most(tree) -> None:
    for variant, lr in (("a", 1e-3), ("b", 1e-2), ("c", 1e-1)):
        clean(tree, variant, (0.8, 0.1), lr=lr)
    clean(tree, "decay", (0.8, 0.1), weight_decay=10.0)
    clean(tree, "mmcl", (0.8, 0.1), ssl_weight=0.0)
    runs = by_method(tree)
    assert {name: run.loss for name, run in runs.items()} == {
        **dict.fromkeys(("a", "b", "c", "decay"), "mmcl_ssl"),
        "mmcl": "mmcl",
    }
    assert {name: run.changes for name, run in runs.items() if run.changes} == {
        "decay": (("weight_decay", 10.0),)
    }


def test_the_start_is_not_among_the_epochs(tree) -> None:
    clean(tree, "a", (0.8, 0.1), (None, None), (0.7, 0.0), lr=1e-3)
    run = by_method(tree)["a"]
    assert (run.start["clean_accuracy"], run.start["attack_success_rate"]) == (0.9, 0.95)
    assert run.points[["clean_accuracy", "lr"]].to_numpy().tolist() == [[0.8, 1e-3], [0.7, 1e-3]]


def test_a_shrunk_victim_is_compared_with_the_victim_before_shrinking(tree) -> None:
    clean(tree, "shrunk", (0.7, 0.1), start=(0.1, 0.1), shrink=0.5)
    assert by_method(tree)["shrunk"].start["clean_accuracy"] == 0.1
    clean(tree, "usual", (0.8, 0.1))
    assert by_method(tree)["shrunk"].start["clean_accuracy"] == 0.9


def test_unpoisoned_victims_and_plain_cleanclip_alone_are_no_sweep(tree) -> None:
    clean(tree, "", (0.8, 0.1))
    assert cleanings(tree.inputs) == []
    clean(tree, "a", (0.8, 0.1), attack="unpoisoned")
    assert [run.method for run in cleanings(tree.inputs)] == ["cleanclip"]


def test_of_equal_accuracies_the_lower_attack_success_rate_is_best() -> None:
    rates = {"clean_accuracy": [0.8, 0.8, 0.9], "attack_success_rate": [0.04, 0.01, 0.05]}
    best = best_below(pd.DataFrame(rates), 0.05)
    assert best is not None
    assert best["attack_success_rate"] == 0.01
    assert best_below(pd.DataFrame(rates), 0.01) is None  # below the limit, not at it
