"""The stages ``unlearn`` and ``baselines``: the contract of every repair in the table."""

import json
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import pytest
import torch

from clipmend.engine.job import Input
from clipmend.methods.interfaces import Repair
from clipmend.methods.repairs import run as runner
from clipmend.methods.repairs import see_through_plan
from clipmend.methods.table import METHODS, create
from clipmend.model.clip import Clip, load

Run = Callable[..., Input]

REPAIRS = [(stage, name) for stage in ("unlearn", "baselines") for name in METHODS[stage]]
every_repair = pytest.mark.parametrize(("stage", "repair"), REPAIRS)

# The scores of so small a world name no common word, so that `ubt` takes true poison. The rate is
# low: the default rate first destroys so small a model.
SETTINGS = {"lr": 1e-3, "epochs": 4}
OWN = {
    "ubt": {"choose": "oracle", "pairs": 16, "batch_size": 8, "cooldown": 1},
    "see_through": {"choose": "oracle"},
    "tbar": {"pairs": 16, "batch_size": 8},
    "invertune": {"least_excess": 0.0, "inversion_epochs": 2, "batch_size": 8},
    "rvpt": {"tokens": 4, "first_layer": 1},
}
ON_VIT = {"rvpt"}  # the repairs of a vision transformer alone
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


class KilledError(Exception):
    pass


def measure(model: Clip) -> dict[str, float]:
    """Return a number that every weight of the image tower changes."""
    weights = model.net.visual.state_dict().values()
    return {"clean_accuracy": sum(float(weight.double().sum()) for weight in weights)}


def killed_at(number: int | None) -> Callable[[Clip], dict[str, float]]:
    """Return a measure that kills the run where it measures for this time, counted from 0."""
    calls = count()

    def fail(model: Clip) -> dict[str, float]:
        if next(calls) == number:
            raise KilledError
        return measure(model)

    return fail


@pytest.fixture(scope="module")
def victim_of(world: Any, attacked: dict[str, Input]) -> Callable[[str], Input]:
    """Return a function that gives the victim of a repair, whose image tower it supports."""

    @cache
    def vit() -> Input:
        path = world.root / "vit.json"
        path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}))
        inputs = {name: attacked[name] for name in ("corpus", "poison")}
        settings = {"epochs": 1, "batch_size": 64, "early_epoch": 1}
        shared = {"model": str(path), "pretrained": None}
        return world.run("pretrain/tiny/badnet/mmcl/vit", "mmcl", inputs, settings, shared)

    return lambda repair: vit() if repair in ON_VIT else attacked["victim"]


@pytest.fixture(scope="module")
def run(world: Any, attacked: dict[str, Input], victim_of: Callable[[str], Input]) -> Run:
    """Return a function that runs a repair, with the scores of its detector."""

    @cache
    def scored(detector: str) -> Input:
        briefly = {"shares": (0.5, 0.5), "epochs": 1} if detector == "pud" else {}
        return world.run(f"detect/for_repairs/{detector}", detector, attacked, briefly)

    def run(stage: str, repair: str, more: Any, name: str, killed: int | None = None) -> Input:
        detector = getattr(create(stage, repair, {}), "detector", None)
        inputs = attacked | {"victim": victim_of(repair)}
        inputs |= {} if detector is None else {"detector": scored(detector)}
        settings = SETTINGS | OWN.get(repair, {}) | dict(more)
        cell = f"{stage}/{name}/{repair}{len(more)}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(see_through_plan, "_LEVEL", 1.0)  # the estimate has no effect here
            patch.setattr(runner, "measure_on_val", lambda *_, **__: killed_at(killed))
            try:
                return world.run(cell, repair, inputs, settings)
            except KilledError:
                (world.root / "results" / cell).rmdir()
                raise

    return run


@pytest.fixture(scope="module")
def made(run: Run) -> Run:
    """Return a function that makes a repair, once for all tests."""
    return cache(lambda stage, repair, *more: run(stage, repair, more, "contract"))


@every_repair
def test_a_repair_lowers_its_loss_and_keeps_the_shapes(
    world, made, victim_of, stage, repair
) -> None:
    losses = [float(row["loss"]) for row in world.curve(made(stage, repair)) if row["loss"]]
    assert losses[-1] < losses[0]
    folders = made(stage, repair).folder, victim_of(repair).folder
    mended, had = (load(folder).full_state() for folder in folders)
    assert {n: mended[n].shape for n in had} == {n: v.shape for n, v in had.items()}
    added = mended.keys() - had.keys()
    assert all(name.endswith("visual_prompts") for name in added)
    assert bool(added) == (repair in ON_VIT)
    is_kept = torch.equal(mended["visual.conv1.weight"], had["visual.conv1.weight"])
    assert is_kept == (repair in ON_VIT)


@every_repair
def test_a_curve_ends_at_the_model_that_is_saved(world, made, stage, repair) -> None:
    last = world.curve(made(stage, repair))[-1]
    assert (
        float(last["clean_accuracy"]) == measure(load(made(stage, repair).folder))["clean_accuracy"]
    )


IN_SEQUENCE = ("unlearn", "abl", (("finetune_epochs", 2),))  # two tasks, one after the other
ADDED = (("pairs", 48), ("poisons", 4), ("shrink", 0.9), ("perturb", 0.1), ("clusters", 4))
CASES = [*((*repair, ()) for repair in REPAIRS), IN_SEQUENCE, ("baselines", "cleanclip", ADDED)]


@pytest.mark.parametrize(("stage", "repair", "more"), CASES)
def test_a_repair_killed_again_and_again_makes_the_same_bytes(
    made, run, stage, repair, more
) -> None:
    deaths = 0
    while True:
        try:  # the epoch before the kill is in the checkpoint
            resumed = run(stage, repair, more, "killed", killed=2)
            break
        except KilledError:
            deaths += 1
    assert deaths >= 1
    for file in made(stage, repair, *more).folder.iterdir():
        assert (resumed.folder / file.name).read_bytes() == file.read_bytes()


@every_repair
def test_a_repair_says_what_it_needs(stage, repair) -> None:
    method = create(stage, repair, {})
    assert isinstance(method, Repair)
    needed = {"unlearn": ("train",), "baselines": ("trusted",)}[stage]
    more = {"invertune": ("train", "trusted"), "rvpt": ("trusted", "labels")}
    assert method.needs == more.get(repair, needed)
    assert method.control is False


@pytest.mark.parametrize(
    ("repair", "extra"),
    [
        ("ubt", {"finding.json", "chosen.parquet"}),
        ("see_through", {"finding.json", "chosen.parquet", "trigger-1.png", "pasted-1.png"}),
        ("abl", set()),
    ],
)
def test_only_a_repair_with_a_finding_writes_one(made, repair, extra) -> None:
    expected = {"model.safetensors", "open_clip_config.json", "curve.csv"}
    assert {file.name for file in made("unlearn", repair).folder.iterdir()} == expected | extra
