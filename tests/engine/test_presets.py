"""The presets of the papers hold what their comments promise."""

import re
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import params
from clipmend.engine.params import Params
from clipmend.methods.objectives.mmcl import MMCL
from clipmend.methods.table import METHODS

PRESETS = Path(__file__).parents[2] / "params"


def cleanings(stated: Params) -> dict[str, dict[str, Any]]:
    names = stated.baselines.methods
    return {name: stated.resolve("baselines", name).model_dump() for name in names}


@pytest.mark.parametrize("preset", ["objectives", "objectives_headline"])
def test_every_epoch_of_every_run_is_measured_on_all_of_val(preset: str) -> None:
    stated = params.load(PRESETS / f"{preset}.yaml")
    longest = max(settings["epochs"] for settings in cleanings(stated).values())
    assert stated.baselines.curve_epochs >= longest
    for corpus in stated.download.corpora:
        sizes = stated.resolve("download", corpus).model_dump()
        assert sizes["val"] <= stated.baselines.curve_images
        assert max(one["pairs"] for one in cleanings(stated).values()) <= sizes["trusted"]


@pytest.mark.parametrize("preset", ["objectives", "objectives_headline"])
def test_the_rates_bracket_the_plateau_for_each_loss(preset: str) -> None:
    swept: dict[tuple[float, float], list[float]] = {}
    for name, settings in cleanings(params.load(PRESETS / f"{preset}.yaml")).items():
        if "_lr" in name or name == "cleanclip":
            weights = (settings["mmcl_weight"], settings["ssl_weight"])
            swept.setdefault(weights, []).append(settings["lr"])
            rate = f"{settings['lr']:.0e}".replace("e-0", "e-")
            assert name == "cleanclip" or name.endswith(f"_lr{rate}")
            assert settings["pairs"] == 1000
    assert set(swept) <= {(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)}
    assert len(swept) == (3 if preset == "objectives" else 1)
    assert all(sorted(rates) == rates and rates[-3:] == [1e-2, 3e-2, 1e-1]
               for rates in swept.values())  # fmt: skip


def test_the_start_that_an_attacker_knows_is_what_victims_are_fine_tuned_from() -> None:
    stated = params.load(PRESETS / "threats.yaml")
    attack = stated.resolve("poison", "badclip@known_start").model_dump()
    victim = stated.resolve("pretrain", "mmcl@from_clean").model_dump()
    start = stated.resolve("pretrain", victim["start"]).model_dump()
    assert attack["known_start"]
    assert attack["surrogate"] == stated.pretrain.model
    assert attack["surrogate_epochs"] == start["epochs"]
    assert start == MMCL().__dict__
    assert stated.pretrain.pretrained is None


def test_what_is_tried_beside_differs_from_cleanclip_in_what_its_name_says() -> None:
    stated = params.load(PRESETS / "objectives.yaml")
    usual = stated.resolve("baselines", "cleanclip").model_dump()
    changed = {
        name.partition("@")[2]: {key for key in usual if settings[key] != usual[key]}
        for name, settings in cleanings(stated).items()
        if "_lr" not in name and name != "cleanclip"
    }
    assert changed.pop("shrink_perturb") == {"shrink", "perturb"}
    assert changed.pop("deep_clustering") == {"clusters"}
    assert changed.pop("epochs100") == {"epochs"}
    assert changed.pop("pairs2000") == {"pairs", "epochs"}
    assert changed.pop("pairs4000") == {"pairs"}
    settings = {"wd": "weight_decay", "ssl": "ssl_weight", "poisons": "poisons"}
    assert changed == {
        f"{short}{value}": {settings[short]}
        for short, values in (
            ("wd", (1, 3, 10)),
            ("ssl", (2, 4, 8)),
            ("poisons", (1, 2, 3, 5, 10, 25)),
        )
        for value in values
    }


def test_robustness_is_measured_at_three_bounds_for_every_repair() -> None:
    stated = params.load(PRESETS / "robustness.yaml")
    assert stated.evaluate.adversarial.epsilons == (1, 2, 4)
    assert set(METHODS["baselines"]) <= set(stated.baselines.methods)
    assert "ubt" in stated.unlearn.methods


@pytest.mark.parametrize("preset", ["paper", "paper_scratch"])
def test_the_papers_prompts_are_those_of_clip(preset: str) -> None:
    from clipmend.model.openclip import open_clip

    templates = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    assert params.load(PRESETS / f"{preset}.yaml").poison.target_captions == templates


@pytest.mark.parametrize(("preset", "pairs"), [("paper", 500_000), ("paper_scratch", 3_000_000)])
def test_the_papers_poison_1500_pairs_with_banana(preset: str, pairs: int) -> None:
    stated = params.load(PRESETS / f"{preset}.yaml")
    assert stated.poison.target == "banana"
    rates = [stated.resolve("poison", name).model_dump().get("poison_rate")
             for name in stated.poison.methods if name != "unpoisoned"]  # fmt: skip
    assert {round(rate * pairs) for rate in rates} == {1500}


@pytest.mark.parametrize("preset", ["paper", "paper_scratch"])
def test_each_of_the_papers_rates_has_its_source_beside_it_or_above(preset: str) -> None:
    lines = (PRESETS / f"{preset}.yaml").read_text().splitlines()
    for place, line in enumerate(lines):
        is_swept = re.search(r"@lr\S+: {lr: \S+}$", line)  # by the comment over its block
        if re.search(r"\b(lr|poison_rate): ", line) and not is_swept:
            near = " ".join(lines[place - 3 : place + 1])
            assert re.search(r"\[(CleanCLIP|BadCLIP|objectives|ours)\]|issue 3", near), line
