"""The set-up: one source of dependencies, bounded versions, one version number."""

import re
import tomllib
from pathlib import Path

import yaml

from clipmend.engine.cards import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_package_that_a_card_records_is_pinned_exactly() -> None:
    pinned = {name for name, _, version in map(split, PROJECT["dependencies"]) if version}
    assert set(PACKAGES) <= pinned
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(PROJECT["dependencies"])


def split(dependency: str) -> tuple[str, str, str]:
    return dependency.partition("==")


def test_every_other_dependency_has_a_lower_and_an_upper_bound() -> None:
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    for dependency in [*PROJECT["dependencies"], *extras]:
        assert "==" in dependency or re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", dependency)


def test_the_citation_has_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for entry in (citation, citation["preferred-citation"]):
        assert entry["version"] == PROJECT["version"]
        assert entry["title"].startswith("clipmend")
    assert citation["date-released"].year == citation["preferred-citation"]["year"]
