"""Snakemake and DVC agree on what is made, whichever of them made it."""

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_dvc_makes_nothing_after_snakemake_then_exactly_the_branch_of_an_edit(project: Any) -> None:
    assert project.repro() == []
    assert "up to date" in project.call("dvc", "status").stdout
    project.params(baselines={"methods": ["ft"], "settings": {"ft": {"rate": 0.7}}})
    victims = [f"scenes/{attack}/mmcl/seed0" for attack in ("badnet", "unpoisoned")]
    repairs = [f"baselines/{victim}/ft" for victim in victims]
    numbers = [f"evaluate/{victim}/ft/badnet" for victim in victims]
    assert project.repro() == sorted([*repairs, *numbers, "report"])
    assert not project.planned()


def test_snakemake_finds_nothing_to_do_after_dvc(empty: Any, finished: Any) -> None:
    cells = [name for name in finished.contents() if name.endswith("card.json")]
    assert len(empty.repro()) == len(cells)
    assert not empty.planned()
    assert empty.contents() == finished.contents()
    assert "up to date" in empty.call("dvc", "status").stdout
