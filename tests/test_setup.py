"""The set-up: one source of dependencies, presets that describe runs, nothing of one machine."""

import re
import tomllib
from pathlib import Path

import pytest

from clipmend.engine import params

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PRESETS = sorted((ROOT / "params").glob("*.yaml"))


def test_torch_and_torchvision_are_pinned_exactly() -> None:
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(PROJECT["dependencies"])


def test_every_other_dependency_has_a_lower_and_an_upper_bound() -> None:
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    for dependency in [*PROJECT["dependencies"], *extras]:
        assert "==" in dependency or re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", dependency)


def test_the_changelog_and_the_citation_have_this_version() -> None:
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("preset", PRESETS, ids=[preset.stem for preset in PRESETS])
def test_each_preset_describes_a_run(preset: Path) -> None:
    params.load(preset)


def test_the_default_preset_is_what_params_yaml_says() -> None:
    assert (ROOT / "params" / "default.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_continuous_integration_runs_the_tests() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
