"""The place and the path of a cell convert into each other, for every stage."""

import pytest

from clipmend.engine.cell import Place
from clipmend.errors import PlanError
from clipmend.methods.table import STAGES

PATHS = {
    "download": "download/scenes",
    "poison": "poison/scenes/sig/seed3",
    "pretrain": "pretrain/scenes/sig/mmcl/seed3",
    "detect": "detect/scenes/sig/mmcl/seed3/ubt",
    "unlearn": "unlearn/scenes/sig/mmcl/seed3/ubt@random",
    "baselines": "baselines/scenes/sig/mmcl/seed3/ft",
    "evaluate": "evaluate/scenes/sig/mmcl/seed3/ft/sig",
    "report": "report",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_place_and_its_path_convert_into_each_other(stage) -> None:
    assert Place.parse(PATHS[stage]).path == PATHS[stage]


def test_the_fields_of_a_place_are_the_parts_of_its_path() -> None:
    place = Place.parse("evaluate/scenes/multi/mmcl_ssl/seed12/none/multi.sig")
    expected = Place("evaluate", "scenes", "multi", "mmcl_ssl", 12, "none", "multi.sig")
    assert place == expected


def test_a_place_of_another_stage_keeps_the_fields_that_the_stage_has() -> None:
    evaluation = Place.parse(PATHS["evaluate"])
    assert evaluation.victim.path == PATHS["pretrain"]
    assert evaluation.at("poison").path == PATHS["poison"]
    assert evaluation.at("detect", method="ubt").path == PATHS["detect"]


@pytest.mark.parametrize(
    "path",
    [
        *("", "train/scenes", "download"),
        *("poison/scenes/sig/3", "poison/scenes/sig/seed3/x", "poison/a/b/seed03"),
    ],
)
def test_a_path_of_no_stage_is_refused(path) -> None:
    with pytest.raises(PlanError, match=r"does not name a cell|in place of"):
        Place.parse(path)
