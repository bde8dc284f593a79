"""The cells that the parameters span, and the changes that change their keys."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import grid, params
from clipmend.engine.cell import Cell
from clipmend.engine.index import Index
from clipmend.errors import ClipmendError, ModelError, ParamsError

METHOD = """
from dataclasses import dataclass


@dataclass(frozen=True)
class {cls}:
    {setting}
"""

TARGET = {"target": "x", "target_captions": ["a {}"]}
VICTIM = "pretrain/scenes/badnet/mmcl/seed0"

pytestmark = pytest.mark.usefixtures("write_params")


def attacks(*names: str, **settings: object) -> dict[str, object]:
    """Return a section ``poison``."""
    return TARGET | {"methods": ["unpoisoned", *names], "settings": settings}


def victims(**section: object) -> dict[str, object]:
    """Return a section ``pretrain``."""
    return {"model": "scene_resnet", "methods": ["mmcl"], **section}


def cells() -> dict[str, Cell]:
    return grid.cells(params.load(), Index())


def changed(before: dict[str, Cell]) -> set[str]:
    """Return the cells that are new or have another key."""
    after = cells()
    return {name for name in after if name not in before or after[name].key != before[name].key}


def unrepaired(names: Any) -> set[str]:
    return {name for name in names if name.startswith("evaluate/") and "/none/" in name}


def test_an_unpoisoned_victim_is_evaluated_under_every_trigger(write_params: Any) -> None:
    write_params(poison=attacks("badnet", "blended"))
    assert unrepaired(cells()) == {
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/badnet",
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/blended",
        "evaluate/scenes/badnet/mmcl/seed0/none/badnet",
        "evaluate/scenes/blended/mmcl/seed0/none/blended",
    }


def test_an_attack_of_several_triggers_is_evaluated_under_each(
    write: Any, write_params: Any
) -> None:
    setting = 'triggers: tuple[AttackName, ...] = ("badnet", "sig")'
    write("methods/attacks/multi.py", METHOD.format(cls="Multi", setting=setting))
    write_params(poison=attacks("multi"))
    grid_cells = cells()
    evaluated = unrepaired(grid_cells)
    assert evaluated == {
        f"evaluate/scenes/{attack}/mmcl/seed0/none/multi.{trigger}"
        for attack in ("unpoisoned", "multi")
        for trigger in ("badnet", "sig")
    }
    inputs = {grid_cells[name].inputs["trigger"] for name in evaluated}
    assert inputs == {"poison/scenes/multi/seed0"}


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"methods": ["mmcl"]}, "'mmcl', which pretrain.methods names too"),
        ({"methods": ["mmcl_ssl"], "attacks": ["badnt"]}, "Did you mean 'badnet'?"),
        ({"methods": ["mmcl_sl"]}, "Did you mean 'mmcl_ssl'?"),
    ],
)
def test_unrepaired_objectives_are_checked(
    write_params: Any, objectives: dict[str, list[str]], message: str
) -> None:
    write_params(pretrain=victims(unrepaired=objectives))
    with pytest.raises(ClipmendError, match=re.escape(message)):
        cells()


def test_the_inputs_of_a_cell_have_their_roles_and_come_before_it() -> None:
    grid_cells = cells()
    assert grid_cells["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs == {
        "corpus": "download/scenes",
        "poison": "poison/scenes/badnet/seed0",
        "victim": VICTIM,
        "detector": "detect/scenes/badnet/mmcl/seed0/ubt",
    }
    assert grid_cells["evaluate/scenes/unpoisoned/mmcl/seed0/ft/badnet"].inputs == {
        "corpus": "download/scenes",
        "model": "baselines/scenes/unpoisoned/mmcl/seed0/ft",
        "trigger": "poison/scenes/badnet/seed0",
    }
    assert set(grid_cells["report"].inputs) == grid_cells.keys() - {"report"}
    earlier: set[str] = set()
    for cell in grid_cells.values():
        assert set(cell.inputs.values()) <= earlier
        earlier.add(cell.name)


def test_a_detector_outside_the_grid_is_refused_by_name(write_params: Any) -> None:
    write_params(detect={"methods": ["clip_score"]})
    with pytest.raises(ParamsError, match="reads the scores of detector 'ubt', which"):
        cells()


def test_a_repair_cannot_read_the_scores_of_a_model_detector(write_params: Any) -> None:
    write_params(
        detect={"methods": ["ubt", "decree"]},
        unlearn={"methods": ["ubt"], "settings": {"ubt": {"detector": "decree"}}},
    )
    with pytest.raises(
        ParamsError,
        match=r"'ubt' reads the scores of detector 'decree', which scores the model as "
        r"a whole; detectors that score pairs: ubt\.$",
    ):
        cells()


def test_a_repair_without_a_detector_reads_no_scores(write_params: Any) -> None:
    write_params(detect={}, unlearn={"methods": ["ubt"], "settings": {"ubt": {"detector": None}}})
    assert "detector" not in cells()["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs


def ft(rate: float) -> dict[str, Any]:
    return {"methods": ["ft"], "settings": {"ft": {"rate": rate}}}


FT = [f"scenes/{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
BELOW_FT = {f"baselines/{cell}" for cell in FT} | {f"evaluate/{cell}/badnet" for cell in FT}
UNREPAIRED = {"methods": ["mmcl_ssl"], "attacks": ["badnet"]}


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"baselines": ft(0.2)}, {*BELOW_FT, "report"}),
        ({"baselines": ft(0.1)}, set()),  # the default, written out
        ({"device": "auto"}, set()),
        ({"pretrain": victims(loop={"precision": "auto", "chunk": None})}, set()),  # defaults
        (
            {"pretrain": victims(unrepaired=UNREPAIRED)},
            {
                "pretrain/scenes/badnet/mmcl_ssl/seed0",
                "evaluate/scenes/badnet/mmcl_ssl/seed0/none/badnet",
                "report",
            },
        ),
    ],
)
def test_an_edit_changes_the_keys_of_its_cells_and_those_below(
    write_params: Any, sections: dict[str, Any], expected: set[str]
) -> None:
    before = cells()
    write_params(**sections)
    assert changed(before) == expected


@pytest.mark.parametrize(
    ("sections", "part"),
    [({"seeds": [0, 1]}, "/seed1"), ({"poison": attacks("badnet", "blended")}, "/blended")],
)
def test_a_new_seed_or_attack_adds_cells_and_changes_only_the_report(
    write_params: Any, sections: dict[str, Any], part: str
) -> None:
    write_params(poison=attacks("badnet"))
    before = cells()
    write_params(**{"poison": attacks("badnet"), **sections})
    assert {name for name in changed(before) if part not in name} == {"report"}


def test_the_target_changes_everything_below_poison(write_params: Any) -> None:
    before = cells()
    write_params(poison=attacks("badnet") | {"target": "pear"})
    assert changed(before) == cells().keys() - {"download/scenes"}


def test_a_setting_of_the_loop_is_in_the_key_of_the_victims(write_params: Any) -> None:
    before = cells()
    write_params(pretrain=victims(loop={"chunk": 64}))
    assert VICTIM in changed(before)
    assert cells()[VICTIM].shared["loop"] == {"chunk": 64}


def test_no_two_cells_have_the_same_key(write_params: Any) -> None:
    same = {"ubt@a": {"rate": 0.1}, "ubt@b": {"rate": 0.1}}
    write_params(unlearn={"methods": ["ubt", "ubt@a", "ubt@b"], "settings": same})
    keys = [cell.key for cell in cells().values()]
    assert len(set(keys)) == len(keys)


def with_surrogate(write: Any, write_params: Any, surrogate: str) -> None:
    """Write an attack with a surrogate, and parameters that name the surrogate's model."""
    setting = 'surrogate: ModelName = "scene_resnet"'
    write("methods/attacks/badnet.py", METHOD.format(cls="BadNet", setting=setting))
    write_params(poison=attacks("badnet", badnet={"surrogate": surrogate}))


def with_model(write: Any, write_params: Any, model: str) -> None:  # noqa: ARG001
    write_params(pretrain=victims(model=model))


def with_weights(write: Any, write_params: Any, path: str) -> None:  # noqa: ARG001
    write_params(pretrain=victims(pretrained=path))


@pytest.mark.parametrize(
    ("write_with", "cell"),
    [(with_model, VICTIM), (with_surrogate, "poison/scenes/badnet/seed0")],
)
def test_the_bytes_of_a_model_config_are_in_the_key(
    write: Any, write_params: Any, write_with: Callable[..., None], cell: str
) -> None:
    Path("m.json").write_text("{}")
    write_with(write, write_params, "m.json")
    before = cells()
    assert set(before[cell].files) == {"m.json"}
    Path("m.json").write_text("[]")
    assert cell in changed(before)


def test_the_name_of_a_known_model_is_not_read_as_a_file(write: Any, write_params: Any) -> None:
    Path("RN50").write_text("not read")
    with_surrogate(write, write_params, "RN50")
    assert cells()["poison/scenes/badnet/seed0"].files == {}


@pytest.mark.parametrize(
    ("write_with", "name", "setting"),
    [
        (with_model, "none.json", "pretrain.model"),
        (with_weights, "none/epoch_1.pt", "pretrain.pretrained"),
        (with_surrogate, "none.json", "poison.settings.badnet.surrogate"),
    ],
)
def test_a_missing_model_file_is_refused_with_its_setting(
    write: Any, write_params: Any, write_with: Callable[..., None], name: str, setting: str
) -> None:
    write_with(write, write_params, name)
    message = re.escape(f"{setting} is {name!r}, which does not exist")
    with pytest.raises(ModelError, match=message):
        cells()


def from_clean(
    write: Any, write_params: Any, poison: list[str], start: str = "mmcl"
) -> dict[str, Cell]:
    setting = "start: ObjectiveName | None = None"
    write("methods/objectives/mmcl.py", METHOD.format(cls="MMCL", setting=setting))
    started = {"settings": {"mmcl@from_clean": {"start": start}}}
    write_params(
        poison=TARGET | {"methods": poison},
        pretrain=victims(methods=["mmcl@from_clean", "mmcl"]) | started,
    )
    return cells()


def test_a_victim_that_starts_from_a_clean_one_reads_it_and_comes_after_it(
    write: Any, write_params: Any
) -> None:
    grid_cells = from_clean(write, write_params, ["badnet", "unpoisoned"])
    clean = "pretrain/scenes/unpoisoned/mmcl/seed0"
    for attack in ("badnet", "unpoisoned"):
        victim = grid_cells[f"pretrain/scenes/{attack}/mmcl@from_clean/seed0"]
        assert victim.inputs["start"] == clean
        assert "start" not in grid_cells[f"pretrain/scenes/{attack}/mmcl/seed0"].inputs
    order = list(grid_cells)
    assert order.index(clean) < order.index("pretrain/scenes/badnet/mmcl@from_clean/seed0")


@pytest.mark.parametrize(
    ("poison", "start"),
    [(["badnet"], "mmcl"), (["unpoisoned"], "mmcl_ssl"), (["unpoisoned"], "mmcl@from_clean")],
)
def test_a_start_outside_the_grid_is_refused(
    write: Any, write_params: Any, poison: list[str], start: str
) -> None:
    with pytest.raises(ParamsError, match="starts from"):
        from_clean(write, write_params, poison, start)
