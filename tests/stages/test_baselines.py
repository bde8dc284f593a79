"""Baselines: every repair in the table, whatever it needs."""

import csv
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import pytest
import torch

from clipmend.engine.job import Input
from clipmend.methods.table import METHODS, create
from clipmend.model.clip import Clip, load
from clipmend.stages import baselines as stage

Inputs = Callable[[str], dict[str, Input]]


@pytest.fixture(scope="module")
def inputs(world: Any, corpus: Input, poison: Input, victim: Input) -> Inputs:
    """Return what makes a repair's inputs; the detector's cell is one where it names a detector."""
    every = {"corpus": corpus, "poison": poison, "victim": victim}

    @cache
    def scored(detector: str) -> Input:
        briefly = {"shares": (0.5, 0.5), "epochs": 1} if detector == "pud" else {}
        return world.run(f"detect/for_baselines/{detector}", detector, every, briefly)

    def of(repair: str) -> dict[str, Input]:
        detector = getattr(create("baselines", repair, {}), "detector", None)
        return every if detector is None else {**every, "detector": scored(detector)}

    return of


@pytest.mark.parametrize("repair", METHODS["baselines"])
def test_a_repair_lowers_its_loss_and_keeps_the_shapes(
    world: Any, inputs: Inputs, victim: Input, repair: str
) -> None:
    gently = {"epochs": 6, "lr": 1e-3}  # the default rate begins by undoing the model
    made = world.run(f"baselines/contract/{repair}", repair, inputs(repair), gently)
    losses = [
        float(row["loss"])
        for row in csv.DictReader((made.folder / "curve.csv").read_text().splitlines())
        if row["loss"]
    ]
    assert losses[-1] < losses[0]
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    assert {n: v.shape for n, v in mended.items()} == {n: v.shape for n, v in had.items()}
    assert not torch.equal(mended["visual.conv1.weight"], had["visual.conv1.weight"])


@pytest.mark.parametrize("repair", METHODS["baselines"])
def test_a_curve_ends_at_the_model_that_is_saved(
    world: Any, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, repair: str
) -> None:
    def measure(model: Clip) -> dict[str, float]:
        weights = model.net.visual.state_dict().values()
        return {"clean_accuracy": sum(float(weight.double().sum()) for weight in weights)}

    monkeypatch.setattr(stage, "watch", lambda *_, **__: measure)
    cell = f"baselines/watched/{repair}"
    made = world.run(cell, repair, inputs(repair), {"epochs": 2, "lr": 1e-3})
    last = list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))[-1]
    assert float(last["clean_accuracy"]) == measure(load(made.folder))["clean_accuracy"]


class KilledError(Exception):
    pass


IN_SEQUENCE = ("abl", {"finetune_epochs": 2})  # two tasks, one after the other
CASES = [*((repair, {}) for repair in METHODS["baselines"]), IN_SEQUENCE]


@pytest.mark.parametrize(("repair", "settings"), CASES)
def test_a_repair_killed_again_and_again_makes_the_same_bytes(
    world: Any,
    inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
    repair: str,
    settings: dict[str, int],
) -> None:
    briefly = {"epochs": 3, "lr": 1e-3, **settings}
    cell = f"{repair}{len(settings)}"
    whole = world.run(f"baselines/whole/{cell}", repair, inputs(repair), briefly)
    watch = stage.watch

    def fatal(*args: Any, **settings: Any) -> Callable[[Any], dict[str, float]]:
        measure, looks = watch(*args, **settings), count()

        def look(model: Any) -> dict[str, float]:
            if next(looks) == 2:  # the epoch before this one is in the checkpoint
                raise KilledError
            return measure(model)

        return look

    monkeypatch.setattr(stage, "watch", fatal)
    deaths = 0
    while True:
        try:
            made = world.run(f"baselines/killed/{cell}", repair, inputs(repair), briefly)
            break
        except KilledError:
            deaths += 1
            (world.root / "results" / "baselines" / "killed" / cell).rmdir()
    assert deaths >= 1
    for name in ("model.safetensors", "curve.csv"):
        assert (made.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize("repair", METHODS["baselines"])
def test_a_repair_says_what_it_needs(repair: str) -> None:
    method = create("baselines", repair, {})
    assert set(method.needs) <= {"train", "trusted", "labels"}
    assert method.control is False
