"""``clipmend preset`` writes all values of a preset and shows all others; it overwrites no work."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipmend.engine import params, presets
from clipmend.engine.params import Params
from clipmend.errors import ParamsError
from clipmend.methods import table
from clipmend.tools import preset, settings

ROOT = Path(__file__).parents[2]
every_preset = pytest.mark.parametrize("name", sorted(p.stem for p in ROOT.glob("params/*.yaml")))


def resolved(parameters: Params) -> dict[tuple[str, str], object]:
    """Return every setting that a run of these parameters has."""
    found = {
        (stage, name): parameters.resolve(stage, name).model_dump()
        for stage in table.METHODS
        for name in parameters.section(stage).methods  # type: ignore[attr-defined]
    }
    rest = {stage: parameters.section(stage).shared() for stage in table.STAGES}
    return {**found, ("shared", ""): rest}


def test_params_yaml_is_what_the_default_preset_writes() -> None:
    assert (ROOT / "params.yaml").read_text() == preset.render("default")


@every_preset
def test_the_file_says_what_the_preset_says(name: str) -> None:
    written = params.checked(yaml.safe_load(preset.render(name)))
    assert preset.values(written) == preset.values(params.load_preset(name))


@every_preset
def test_a_setting_that_is_a_comment_is_the_default(name: str) -> None:
    text = preset.render(name)
    head, rest = text[: text.index("\nseeds:")], text[text.index("\nseeds:") :]
    live = re.sub(r"^( +)# (?=\w+:| +\w+: )(?!.*  # required)", r"\1", rest, flags=re.MULTILINE)
    assert len(live) < len(rest)
    assert head
    assert resolved(params.checked(yaml.safe_load(live))) == resolved(params.load_preset(name))


@every_preset
def test_every_setting_of_every_named_method_is_in_the_file(name: str) -> None:
    parameters, text = params.load_preset(name), preset.render(name)
    for stage in table.METHODS:
        block = text.partition(f"\n{stage}:")[2].partition("\n\n")[0]
        for method in parameters.section(stage).methods:  # type: ignore[attr-defined]
            own = table.base(parameters.source(stage, method))
            for setting in settings.method_settings(stage, own):
                assert re.search(rf"^ +(# )?{setting}: ", block, flags=re.MULTILINE), setting


def test_comments_of_a_preset_reach_the_file_where_its_values_are() -> None:
    lines = preset.render("paper_scratch").splitlines()
    assert any(line.startswith("  model: RN50  #") for line in lines)
    assert "    # [objectives] 64 epochs at 1e-3, 10,000 steps of warm-up: 0.107 of 93,750" in str(
        lines
    )
    # Of what it extends, a comment beside a value that was replaced is gone.
    assert "OpenAI's weights were trained with" not in str(lines)


def test_a_file_that_is_a_preset_is_overwritten(folder: Path) -> None:
    out = folder / "params.yaml"
    preset.write("smoke", out)
    out.write_text(f"{out.read_text()}# a comment\n")
    preset.write("seeds3", out)
    assert params.load(out).seeds == (0, 1, 2)


@pytest.mark.parametrize("text", ["seeds: [0]\n", "no parameters"])
def test_a_file_with_values_of_its_own_is_kept(folder: Path, text: str) -> None:
    out = folder / "params.yaml"
    for content in (preset.render("smoke").replace("seeds: [0]", "seeds: [9]"), text):
        out.write_text(content)
        with pytest.raises(ParamsError, match=r"values of its own.*--force"):
            preset.write("default", out)
        assert out.read_text() == content
    preset.write("default", out, force=True)
    assert params.load(out).seeds == (0,)


def test_without_a_name_all_presets_are_listed_with_what_they_are_for(clipmend: Any) -> None:
    lines = clipmend("preset")[0].splitlines()
    assert lines[0].startswith("default  ")
    assert [line.split()[0] for line in lines] == list(presets.presets())
    assert any(line.endswith("large enough to find a break.") for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "seeds:\n- 52\n",
        "seeds:  # two\n  - 52\n  # and\n  - 53\n",
        "seeds: [52,  # first\n  53]\n",
        "seeds: &a\n- 52\nevaluate: {adversarial: {epsilons: *a}}\n",
        "poison:\n  settings:\n    multi@own:\n      triggers:\n      - badnet\n      - sig\n",
        "unlearn: {settings: {ubt@own: &b {epochs: 2}, ubt@two: {<<: *b}, ubt: {<<: *b}}}\n",
        'poison:\n  target_captions:\n  - "a {}"\n',
    ],
)
def test_a_preset_of_ones_own_may_have_any_yaml_style(text: str, folder: Path) -> None:
    (folder / "params").mkdir()
    (folder / "params" / "own.yaml").write_text(f"# Own.\nextends: default\n{text}")
    written = params.checked(yaml.safe_load(preset.render("own")))
    assert preset.values(written) == preset.values(params.load_preset("own"))
