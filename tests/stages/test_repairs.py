"""The stages ``unlearn`` and ``baselines``: the contract of every repair in the table."""

import csv
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import pytest
import torch

from clipmend.engine.job import Input
from clipmend.methods.interfaces import Repair
from clipmend.methods.repairs import run as runner
from clipmend.methods.table import METHODS, create
from clipmend.model.clip import Clip, load

Inputs = Callable[[str, str], dict[str, Input]]

REPAIRS = [(stage, name) for stage in ("unlearn", "baselines") for name in METHODS[stage]]
every_repair = pytest.mark.parametrize(("stage", "repair"), REPAIRS)

# The scores of so small a world name no common word, so that `ubt` takes true poison.
UBT = {"choose": "oracle", "pairs": 16, "batch_size": 8, "cooldown": 1}


def settings_of(repair: str, **settings: Any) -> dict[str, Any]:
    """Return settings with a low rate: the default rate first destroys so small a model."""
    return {"lr": 1e-3, **(UBT if repair == "ubt" else {}), **settings}


@pytest.fixture(scope="module")
def inputs(world: Any, corpus: Input, poison: Input, victim: Input) -> Inputs:
    """Return a function that makes a repair's inputs, with the scores of its detector."""
    every = {"corpus": corpus, "poison": poison, "victim": victim}

    @cache
    def scored(detector: str) -> Input:
        briefly = {"shares": (0.5, 0.5), "epochs": 1} if detector == "pud" else {}
        return world.run(f"detect/for_repairs/{detector}", detector, every, briefly)

    def of(stage: str, repair: str) -> dict[str, Input]:
        detector = getattr(create(stage, repair, {}), "detector", None)
        return every if detector is None else {**every, "detector": scored(detector)}

    return of


def curve(made: Input) -> list[dict[str, str]]:
    return list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))


@every_repair
def test_a_repair_lowers_its_loss_and_keeps_the_shapes(
    world: Any, inputs: Inputs, victim: Input, stage: str, repair: str
) -> None:
    settings = settings_of(repair, epochs=6)
    made = world.run(f"{stage}/contract/{repair}", repair, inputs(stage, repair), settings)
    losses = [float(row["loss"]) for row in curve(made) if row["loss"]]
    assert losses[-1] < losses[0]
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    assert {n: v.shape for n, v in mended.items()} == {n: v.shape for n, v in had.items()}
    assert not torch.equal(mended["visual.conv1.weight"], had["visual.conv1.weight"])


@every_repair
def test_a_curve_ends_at_the_model_that_is_saved(
    world: Any, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, stage: str, repair: str
) -> None:
    def measure(model: Clip) -> dict[str, float]:
        weights = model.net.visual.state_dict().values()
        return {"clean_accuracy": sum(float(weight.double().sum()) for weight in weights)}

    monkeypatch.setattr(runner, "measure_on_val", lambda *_, **__: measure)
    settings = settings_of(repair, epochs=2)
    made = world.run(f"{stage}/watched/{repair}", repair, inputs(stage, repair), settings)
    last = float(curve(made)[-1]["clean_accuracy"])
    assert last == measure(load(made.folder))["clean_accuracy"]


class KilledError(Exception):
    pass


IN_SEQUENCE = ("unlearn", "abl", {"finetune_epochs": 2})  # two tasks, one after the other
ADDED = {"pairs": 48, "poisons": 4, "shrink": 0.9, "perturb": 0.1, "clusters": 4}
CASES = [*((*repair, {}) for repair in REPAIRS), IN_SEQUENCE, ("baselines", "cleanclip", ADDED)]


@pytest.mark.parametrize(("stage", "repair", "settings"), CASES)
def test_a_repair_killed_again_and_again_makes_the_same_bytes(
    world: Any,
    inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    repair: str,
    settings: dict[str, float],
) -> None:
    briefly = settings_of(repair, epochs=3, **settings)
    name = f"{repair}{len(settings)}"
    whole = world.run(f"{stage}/whole/{name}", repair, inputs(stage, repair), briefly)
    measure_on_val = runner.measure_on_val

    def fatal(*args: Any, **settings: Any) -> Callable[[Any], dict[str, float]]:
        measure, measurements = measure_on_val(*args, **settings), count()

        def fail(model: Any) -> dict[str, float]:
            if next(measurements) == 2:  # the epoch before this one is in the checkpoint
                raise KilledError
            return measure(model)

        return fail

    monkeypatch.setattr(runner, "measure_on_val", fatal)
    deaths = 0
    while True:
        try:
            made = world.run(f"{stage}/killed/{name}", repair, inputs(stage, repair), briefly)
            break
        except KilledError:
            deaths += 1
            (world.root / "results" / stage / "killed" / name).rmdir()
    assert deaths >= 1
    for file in whole.folder.iterdir():
        assert (made.folder / file.name).read_bytes() == file.read_bytes()


@every_repair
def test_a_repair_says_what_it_needs(stage: str, repair: str) -> None:
    method = create(stage, repair, {})
    assert isinstance(method, Repair)
    assert method.needs == (("train",) if stage == "unlearn" else ("trusted",))
    assert method.control is False


def test_only_a_repair_with_a_finding_writes_one(world: Any, inputs: Inputs) -> None:
    expected = {"model.safetensors", "open_clip_config.json", "curve.csv"}
    for stage, repair, extra in [
        ("unlearn", "ubt", {"finding.json", "chosen.parquet"}),
        ("unlearn", "abl", set()),
    ]:
        settings = settings_of(repair, epochs=2)
        made = world.run(f"{stage}/files/{repair}", repair, inputs(stage, repair), settings)
        assert {file.name for file in made.folder.iterdir()} == expected | extra
