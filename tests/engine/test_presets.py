"""A preset holds what differs, ``params.yaml`` shows everything, and names say what values are."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import params, presets
from clipmend.engine.params import Params
from clipmend.errors import ParamsError, UnknownNameError
from clipmend.methods.objectives.mmcl import MMCL
from clipmend.methods.table import METHODS, base, scores_of

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "params").glob("*.yaml"))
every_preset = pytest.mark.parametrize("name", NAMES)
every_overlay = pytest.mark.parametrize("name", [name for name in NAMES if name != "default"])


def leaves(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def at(values: Any, key: tuple[str, ...]) -> Any:
    for name in key:
        if not isinstance(values, dict) or name not in values:
            return "nothing"
        values = values[name]
    return values


@every_overlay
def test_a_preset_holds_only_what_differs(name) -> None:
    own = presets.read(presets.preset(name))
    extended = presets.values(presets.preset(own.pop("extends")))
    for key, value in leaves(own):
        assert at(extended, key) != (value if value is not None else "nothing"), key


@every_preset
def test_a_preset_says_in_its_first_line_what_it_is_for(name) -> None:
    assert re.fullmatch(r"[A-Z].{20,}\.", presets.summary(presets.preset(name)))


def test_mappings_merge_lists_replace_and_null_removes() -> None:
    extended = {"a": {"b": 1, "c": 2}, "l": [1, 2], "gone": 3}
    change = {"a": {"c": 5, "d": None}, "l": [3], "gone": None}
    merged = {"a": {"b": 1, "c": 5, "d": None}, "l": [3]}
    assert presets.merge(extended, change) == merged


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_preset_may_lie_anywhere_and_extend_its_neighbor(tmp_path) -> None:
    write(tmp_path, "study.yaml", "extends: smoke\nseeds: [4]\n")
    path = write(tmp_path, "part.yaml", "extends: study\npoison: {methods: [badnet]}\n")
    part = params.load(path)
    assert (part.seeds, part.poison.methods) == ((4,), ("badnet",))
    assert part.download.corpora == ("scenes@smoke",)


def test_a_preset_that_extends_itself_is_refused(tmp_path) -> None:
    write(tmp_path, "a.yaml", "extends: b\n")
    with pytest.raises(ParamsError, match="extends itself"):
        presets.values(write(tmp_path, "b.yaml", "extends: a\n"))


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown preset 'smok'\. Did you mean 'smoke'\?"):
        presets.preset("smok")


def test_params_yaml_must_be_complete(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "params.yaml", "extends: default\nseeds: [1]\n")
    with pytest.raises(ParamsError, match=r"must be complete.*clipmend preset NAME"):
        params.load()


def settings(parameters: Params, stage: str) -> dict[str, dict[str, Any]]:
    """Return the resolved settings of every method that a stage names."""
    section = parameters.section(stage)
    return {
        name: parameters.resolve(stage, name).model_dump()
        for name in section.methods  # type: ignore[attr-defined]
    }


# By the word that stands before a number in the name of a variant; other words are settings.
SETTINGS = {"own": "isolated", "rate": "matching_rate", "share": "isolated", "ssl": "ssl_weight"}
SETTINGS |= {"decay": "weight_decay", "wd": "weight_decay", "x": "epochs"}


@every_preset
def test_a_number_in_the_name_of_a_variant_is_the_value_of_its_setting(name) -> None:
    parameters = params.load_preset(name)
    for stage in ("pretrain", "unlearn", "baselines"):
        for variant, values in settings(parameters, stage).items():
            numbers = re.findall(r"([a-z]+)([\d.]+(?:e-\d+)?)", variant.partition("@")[2])
            for word, number in numbers:
                if (name, word) != ("tuning", "x"):  # there it is a multiple of the default
                    assert values[SETTINGS.get(word, word)] == float(number), variant


@pytest.mark.parametrize("name", ["objectives", "objectives_headline"])
def test_every_epoch_of_a_study_of_rates_is_measured_on_all_of_val(name) -> None:
    parameters = params.load_preset(name)
    longest = max(values["epochs"] for values in settings(parameters, "baselines").values())
    assert parameters.baselines.curve_epochs >= longest
    for corpus in settings(parameters, "download").values():
        assert corpus["val"] <= parameters.baselines.curve_images


@every_preset
def test_no_repair_takes_more_trusted_pairs_than_there_are(name) -> None:
    parameters = params.load_preset(name)
    taken = max((v.get("pairs", 0) for v in settings(parameters, "baselines").values()), default=0)
    for corpus in parameters.download.corpora:
        assert parameters.resolve("download", corpus).model_dump()["trusted"] >= taken


def test_the_start_that_an_attacker_knows_is_what_victims_are_fine_tuned_from() -> None:
    parameters = params.load_preset("threats")
    attack = parameters.resolve("poison", "badclip@known_start").model_dump()
    victim = parameters.resolve("pretrain", "mmcl@from_clean").model_dump()
    start = parameters.resolve("pretrain", victim["start"]).model_dump()
    assert attack["known_start"]
    assert attack["surrogate"] == parameters.pretrain.model
    assert attack["surrogate_epochs"] == start["epochs"]
    assert start == MMCL().__dict__
    assert parameters.pretrain.pretrained is None


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        *(("full", "poison"), ("photos_attacks", "poison")),
        *(("full", "detect"), ("photos_repairs", "detect")),
        *product(("full", "photos_repairs", "robustness"), ("unlearn", "baselines")),
    ],
)
def test_a_preset_of_all_methods_names_every_one(name, stage) -> None:
    # These have presets of their own; `rvpt` repairs vision transformers alone.
    inputs = {method for method in METHODS["detect"] if scores_of(method) == "inputs"}
    absent = {"detect": {"cognitive_distillation"}, "baselines": {"rvpt"}}
    if name != "full":
        absent["detect"] |= inputs
    named = set(map(base, params.load_preset(name).section(stage).methods))  # type: ignore[attr-defined]
    assert set(METHODS[stage]) - named == absent.get(stage, set())


def test_the_papers_prompts_are_those_of_clip() -> None:
    from clipmend.model.openclip import open_clip

    templates = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    assert params.load_preset("paper").poison.target_captions == templates


@pytest.mark.parametrize(
    ("name", "pairs"), [("paper", 500_000), ("paper_scratch", 3_000_000), ("counts", 500_000)]
)
def test_the_papers_poison_1500_pairs(name, pairs) -> None:
    attacks = settings(params.load_preset(name), "poison").values()
    rates = [attack["poison_rate"] for attack in attacks if "poison_rate" in attack]
    assert {round(rate * pairs) for rate in rates} == {1500}


@pytest.mark.parametrize("name", ["paper", "paper_scratch"])
def test_each_of_the_papers_rates_has_its_source_beside_it_or_above(name) -> None:
    lines = presets.preset(name).read_text().splitlines()
    for place, line in enumerate(lines):
        is_swept = re.search(r"@lr\S+: {lr: \S+}$", line)  # by the comment over its block
        if re.search(r"\b(lr|poison_rate): [\d.]", line) and not is_swept:
            near = " ".join(lines[place - 3 : place + 1])
            assert re.search(r"\[(CleanCLIP|BadCLIP|objectives|ours)\]|issue 3", near), line
