"""The cells that the parameters span, and what moves their keys."""

import re
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import grid, params
from clipmend.engine.cell import Cell
from clipmend.engine.index import Index
from clipmend.errors import ClipmendError, ModelError, ParamsError

# What a method returns may be said by the class that it inherits from.
LOCAL = """
class Local:
    def __call__(self) -> Verdict: ...
"""
JUDGE = """
from dataclasses import dataclass

from clipmend.methods.detectors.local import Local


@dataclass(frozen=True)
class DECREE(Local):
    rate: float = 0.1
"""

STARTING = """
from dataclasses import dataclass


@dataclass(frozen=True)
class MMCL:
    start: ObjectiveName | None = None
"""

SURROGATE = """
from dataclasses import dataclass

from clipmend.methods.settings import ModelName


@dataclass(frozen=True)
class BadNet:
    surrogate: ModelName = "scene_resnet"
"""

pytestmark = pytest.mark.usefixtures("write_params")


def cells() -> dict[str, Cell]:
    return grid.cells(params.load(), Index())


def changed(before: dict[str, Cell]) -> set[str]:
    """Return the cells that are new or whose key moved."""
    after = cells()
    return {name for name in after if name not in before or after[name].key != before[name].key}


def test_an_unpoisoned_victim_is_tried_under_every_trigger(write_params: Any) -> None:
    write_params(
        poison={
            "target": "x",
            "target_captions": ["a {}"],
            "methods": ["unpoisoned", "badnet", "blended"],
        }
    )
    names = {name for name in cells() if name.startswith("evaluate/") and "/none/" in name}
    assert names == {
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/badnet",
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/blended",
        "evaluate/scenes/badnet/mmcl/seed0/none/badnet",
        "evaluate/scenes/blended/mmcl/seed0/none/blended",
    }


def test_an_unrepaired_victim_is_measured_as_it_is(write_params: Any) -> None:
    before = cells()
    unrepaired = {"methods": ["mmcl_ssl"], "attacks": ["badnet"]}
    write_params(pretrain={"model": "scene_resnet", "methods": ["mmcl"], "unrepaired": unrepaired})
    assert changed(before) == {
        "pretrain/scenes/badnet/mmcl_ssl/seed0",
        "evaluate/scenes/badnet/mmcl_ssl/seed0/none/badnet",
        "report",
    }


@pytest.mark.parametrize(
    ("unrepaired", "said"),
    [
        ({"methods": ["mmcl"]}, "'mmcl', which pretrain.methods names too"),
        ({"methods": ["mmcl_ssl"], "attacks": ["badnt"]}, "Did you mean 'badnet'?"),
        ({"methods": ["mmcl_sl"]}, "Did you mean 'mmcl_ssl'?"),
    ],
)
def test_unrepaired_objectives_are_checked(
    write_params: Any, unrepaired: dict[str, list[str]], said: str
) -> None:
    write_params(pretrain={"model": "scene_resnet", "methods": ["mmcl"], "unrepaired": unrepaired})
    with pytest.raises(ClipmendError, match=re.escape(said)):
        cells()


def test_roles_name_the_cells_that_play_them() -> None:
    found = cells()
    assert found["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs == {
        "corpus": "download/scenes",
        "poison": "poison/scenes/badnet/seed0",
        "victim": "pretrain/scenes/badnet/mmcl/seed0",
        "detector": "detect/scenes/badnet/mmcl/seed0/ubt",
    }
    assert found["evaluate/scenes/unpoisoned/mmcl/seed0/ft/badnet"].inputs == {
        "corpus": "download/scenes",
        "model": "baselines/scenes/unpoisoned/mmcl/seed0/ft",
        "trigger": "poison/scenes/badnet/seed0",
    }
    assert set(found["report"].inputs) == found.keys() - {"report"}


def test_cells_come_after_those_that_they_read() -> None:
    seen: set[str] = set()
    for cell in cells().values():
        assert set(cell.inputs.values()) <= seen
        seen.add(cell.name)


def test_a_detector_that_is_not_in_the_grid_is_named(write_params: Any) -> None:
    write_params(detect={"methods": ["clip_score"]})
    with pytest.raises(ParamsError, match="reads the scores of detector 'ubt', which"):
        cells()


def test_a_detector_that_judges_the_model_has_no_scores_to_be_read(
    write: Any, write_params: Any
) -> None:
    write("methods/detectors/local.py", LOCAL)
    write("methods/detectors/decree.py", JUDGE)
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


def test_a_method_that_reads_no_detector_needs_none(write_params: Any) -> None:
    write_params(detect={}, unlearn={"methods": ["ubt"], "settings": {"ubt": {"detector": None}}})
    assert "detector" not in cells()["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs


def test_a_setting_moves_its_cells_and_those_below(write_params: Any) -> None:
    before = cells()
    write_params(baselines={"methods": ["ft"], "settings": {"ft": {"rate": 0.2}}})
    victims = [f"scenes/{attack}/mmcl/seed0" for attack in ("badnet", "unpoisoned")]
    expected = {f"baselines/{v}/ft" for v in victims} | {f"evaluate/{v}/ft/badnet" for v in victims}
    assert changed(before) == expected | {"report"}


def test_a_default_written_out_moves_nothing(write_params: Any) -> None:
    before = cells()
    write_params(baselines={"methods": ["ft"], "settings": {"ft": {"rate": 0.1}}})
    assert changed(before) == set()


def test_the_device_moves_nothing(write_params: Any) -> None:
    before = cells()
    write_params(device="auto")
    assert changed(before) == set()


def test_another_seed_adds_cells_and_moves_only_the_report(write_params: Any) -> None:
    before = cells()
    write_params(seeds=[0, 1])
    assert {name for name in changed(before) if "seed1" not in name} == {"report"}


def test_the_target_moves_everything_below_poison(write_params: Any) -> None:
    before = cells()
    write_params(
        poison={"target": "pear", "target_captions": ["a {}"], "methods": ["unpoisoned", "badnet"]}
    )
    assert changed(before) == cells().keys() - {"download/scenes"}


def test_no_two_cells_share_a_key(write_params: Any) -> None:
    same = {"ubt@a": {"rate": 0.1}, "ubt@b": {"rate": 0.1}}
    write_params(unlearn={"methods": ["ubt", "ubt@a", "ubt@b"], "settings": same})
    keys = [cell.key for cell in cells().values()]
    assert len(set(keys)) == len(keys)


def test_how_the_loop_computes_is_in_the_key_where_it_is_not_the_default(write_params: Any) -> None:
    model = {"model": "scene_resnet", "methods": ["mmcl"]}
    write_params(pretrain=model)
    before = cells()
    write_params(pretrain={**model, "loop": {"precision": "auto", "chunk": None}})
    assert not changed(before)
    write_params(pretrain={**model, "loop": {"chunk": 64}})
    assert "pretrain/scenes/badnet/mmcl/seed0" in changed(before)
    assert cells()["pretrain/scenes/badnet/mmcl/seed0"].shared["loop"] == {"chunk": 64}


def test_the_bytes_of_a_model_config_move_the_victims(write_params: Any) -> None:
    Path("m.json").write_text("{}")
    write_params(pretrain={"model": "m.json", "methods": ["mmcl"]})
    before = cells()
    Path("m.json").write_text("[]")
    assert "pretrain/scenes/badnet/mmcl/seed0" in changed(before)


def with_surrogate(write: Any, write_params: Any, surrogate: str) -> Cell:
    """Return the poison cell of an attack that trains one."""
    write("methods/attacks/badnet.py", SURROGATE)
    write_params(
        poison={
            "target": "x",
            "target_captions": ["a {}"],
            "methods": ["unpoisoned", "badnet"],
            "settings": {"badnet": {"surrogate": surrogate}},
        }
    )
    return cells()["poison/scenes/badnet/seed0"]


def test_the_bytes_of_a_surrogate_s_config_move_the_poison(write: Any, write_params: Any) -> None:
    Path("m.json").write_text("{}")
    before = with_surrogate(write, write_params, "m.json")
    Path("m.json").write_text("[]")
    after = with_surrogate(write, write_params, "m.json")
    assert set(after.files) == {"m.json"}
    assert after.key != before.key


def test_the_name_of_a_surrogate_is_no_file(write: Any, write_params: Any) -> None:
    Path("RN50").write_text("not read")
    assert with_surrogate(write, write_params, "RN50").files == {}


def test_a_missing_config_of_a_surrogate_is_named(write: Any, write_params: Any) -> None:
    said = r"poison\.settings\.badnet\.surrogate is 'none\.json', which does not exist"
    with pytest.raises(ModelError, match=said):
        with_surrogate(write, write_params, "none.json")


@pytest.mark.parametrize(
    "model", [{"model": "none.json"}, {"model": "x", "pretrained": "none/epoch_1.pt"}]
)
def test_a_missing_model_file_is_named(write_params: Any, model: dict[str, str]) -> None:
    write_params(pretrain={**model, "methods": ["mmcl"]})
    with pytest.raises(ModelError, match=r"'none[^']*', which does not exist"):
        cells()


def from_clean(
    write: Any, write_params: Any, poison: list[str], start: str = "mmcl"
) -> dict[str, Cell]:
    write("methods/objectives/mmcl.py", STARTING)
    write_params(
        poison={"target": "x", "target_captions": ["a {}"], "methods": poison},
        pretrain={
            "model": "scene_resnet",
            "methods": ["mmcl@from_clean", "mmcl"],
            "settings": {"mmcl@from_clean": {"start": start}},
        },
    )
    return cells()


def test_a_victim_that_starts_from_a_clean_one_reads_it_and_comes_after_it(
    write: Any, write_params: Any
) -> None:
    made = from_clean(write, write_params, ["badnet", "unpoisoned"])
    clean = "pretrain/scenes/unpoisoned/mmcl/seed0"
    for attack in ("badnet", "unpoisoned"):
        assert made[f"pretrain/scenes/{attack}/mmcl@from_clean/seed0"].inputs["start"] == clean
        assert "start" not in made[f"pretrain/scenes/{attack}/mmcl/seed0"].inputs
    order = list(made)
    assert order.index(clean) < order.index("pretrain/scenes/badnet/mmcl@from_clean/seed0")


@pytest.mark.parametrize(
    ("poison", "start"),
    [(["badnet"], "mmcl"), (["unpoisoned"], "mmcl_ssl"), (["unpoisoned"], "mmcl@from_clean")],
)
def test_a_start_that_is_not_in_the_grid_is_refused(
    write: Any, write_params: Any, poison: list[str], start: str
) -> None:
    with pytest.raises(ParamsError, match="starts from"):
        from_clean(write, write_params, poison, start)


def test_an_attack_of_several_triggers_is_tried_under_each(write: Any, write_params: Any) -> None:
    write(
        "methods/attacks/multi.py",
        """
from dataclasses import dataclass


@dataclass(frozen=True)
class Multi:
    triggers: tuple[AttackName, ...] = ("badnet", "sig")
""",
    )
    write_params(
        poison={
            "target": "x",
            "target_captions": ["a {}"],
            "methods": ["unpoisoned", "multi"],
            "settings": {},
        }
    )
    made = cells()
    tried = {name for name in made if name.startswith("evaluate/") and "/none/" in name}
    assert tried == {
        f"evaluate/scenes/{attack}/mmcl/seed0/none/multi.{part}"
        for attack in ("unpoisoned", "multi")
        for part in ("badnet", "sig")
    }
    assert {made[name].inputs["trigger"] for name in tried} == {"poison/scenes/multi/seed0"}
