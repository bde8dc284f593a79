"""The cells that the parameters span, and the changes that change their keys."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine import grid, params, schema
from clipmend.engine.cell import Cell
from clipmend.engine.index import Index
from clipmend.errors import ClipmendError
from clipmend.methods import table

METHOD = """
from dataclasses import dataclass


@dataclass(frozen=True)
class {cls}:
    {setting}
"""
STUBS = {  # by file: the class, and a setting that names a model or another method
    "attacks/badnet": ("BadNet", 'surrogate: ModelName = "scene_resnet"'),
    "attacks/multi": ("Multi", 'triggers: tuple[AttackName, ...] = ("badnet", "sig")'),
    "objectives/mmcl": ("MMCL", "start: ObjectiveName | None = None"),
}
POISON, VICTIM = "poison/scenes/badnet/seed0", "pretrain/scenes/badnet/mmcl/seed0"


@pytest.fixture
def span(write: Any, write_params: Any) -> Callable[..., dict[str, Cell]]:
    """Return a function that writes parameters, and returns the cells that they span."""
    for name, (cls, setting) in STUBS.items():
        write(f"methods/{name}.py", METHOD.format(cls=cls, setting=setting))

    def span(**sections: object) -> dict[str, Cell]:
        write_params(**sections)
        return grid.cells(params.load(), Index())

    return span


def attacks(*names: str, target: str = "x", **settings: object) -> dict[str, object]:
    """Return a section ``poison``."""
    shared = {"target": target, "target_captions": ["a {}"]}
    return shared | {"methods": ["unpoisoned", *names], "settings": settings}


def victims(**section: object) -> dict[str, object]:
    """Return a section ``pretrain``."""
    return {"model": "scene_resnet", "methods": ["mmcl"], **section}


def started(start: str) -> dict[str, object]:
    """Return a section ``pretrain`` with an objective that starts from another victim."""
    settings = {"mmcl@from_clean": {"start": start}}
    return victims(methods=["mmcl@from_clean", "mmcl"], settings=settings)


def one(name: str, **settings: object) -> dict[str, object]:
    """Return a section with one method and its settings."""
    return {"methods": [name], "settings": {name: settings}}


def changed(before: dict[str, Cell], after: dict[str, Cell]) -> set[str]:
    """Return the cells that are new or have another key."""
    return {name for name in after if name not in before or after[name].key != before[name].key}


def unrepaired(names: Any) -> set[str]:
    return {name for name in names if name.startswith("evaluate/") and "/none/" in name}


def test_an_unpoisoned_victim_is_evaluated_under_every_trigger(span) -> None:
    assert unrepaired(span(poison=attacks("badnet", "blended"))) == {
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/badnet",
        "evaluate/scenes/unpoisoned/mmcl/seed0/none/blended",
        "evaluate/scenes/badnet/mmcl/seed0/none/badnet",
        "evaluate/scenes/blended/mmcl/seed0/none/blended",
    }


def test_an_attack_of_several_triggers_is_evaluated_under_each(span) -> None:
    cells = span(poison=attacks("multi"))
    evaluated = unrepaired(cells)
    assert evaluated == {
        f"evaluate/scenes/{attack}/mmcl/seed0/none/multi.{trigger}"
        for attack in ("unpoisoned", "multi")
        for trigger in ("badnet", "sig")
    }
    assert {cells[name].inputs["trigger"] for name in evaluated} == {"poison/scenes/multi/seed0"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        *(
            ({"pretrain": victims(unrepaired=objectives)}, message)
            for objectives, message in (
                ({"methods": ["mmcl"]}, "'mmcl', which pretrain.methods names too"),
                ({"methods": ["mmcl_ssl"], "attacks": ["badnt"]}, "Did you mean 'badnet'?"),
                ({"methods": ["mmcl_sl"]}, "Did you mean 'mmcl_ssl'?"),
            )
        ),
        ({"detect": {"methods": ["clip_score"]}}, "reads the scores of detector 'ubt', which"),
        (
            {"detect": {"methods": ["ubt", "decree"]}, "unlearn": one("ubt", detector="decree")},
            "'ubt' reads the scores of detector 'decree', which scores the model as a whole; "
            "detectors that score pairs: ubt.",
        ),
        (
            {"detect": {"methods": ["ubt", "strip"]}, "unlearn": one("ubt", detector="strip")},
            "'ubt' reads the scores of detector 'strip', which scores inputs at test time; "
            "detectors that score pairs: ubt.",
        ),
        (
            {
                "poison": attacks("badnet") | {"methods": ["badnet"]},
                "evaluate": {"further": ["tower_swap"]},
            },
            "'tower_swap', which needs the `unpoisoned` victims of 'mmcl'",
        ),
        *(
            (sections, f"{setting} is {name!r}, which does not exist")
            for name, setting, sections in (
                ("m.json", "pretrain.model", {"pretrain": victims(model="m.json")}),
                ("m/1.pt", "pretrain.pretrained", {"pretrain": victims(pretrained="m/1.pt")}),
                (
                    "m.json",
                    "poison.settings.badnet.surrogate",
                    {"poison": attacks("badnet", badnet={"surrogate": "m.json"})},
                ),
            )
        ),
        # A start outside the grid.
        (
            {"poison": attacks() | {"methods": ["badnet"]}, "pretrain": started("mmcl")},
            "starts from",
        ),
        *(
            ({"poison": attacks(), "pretrain": started(start)}, "starts from")
            for start in ("mmcl_ssl", "mmcl@from_clean")
        ),
    ],
)
def test_parameters_that_name_what_does_not_exist_are_refused(span, sections, message) -> None:
    with pytest.raises(ClipmendError, match=re.escape(message)):
        span(**sections)


def test_the_inputs_of_a_cell_have_their_roles_and_come_before_it(span) -> None:
    cells = span()
    assert cells["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs == {
        "corpus": "download/scenes",
        "poison": POISON,
        "victim": VICTIM,
        "detector": "detect/scenes/badnet/mmcl/seed0/ubt",
    }
    assert cells["evaluate/scenes/unpoisoned/mmcl/seed0/ft/badnet"].inputs == {
        "corpus": "download/scenes",
        "model": "baselines/scenes/unpoisoned/mmcl/seed0/ft",
        "trigger": POISON,
    }
    assert set(cells["report"].inputs) == cells.keys() - {"report"}
    earlier: set[str] = set()
    for cell in cells.values():
        assert set(cell.inputs.values()) <= earlier
        earlier.add(cell.name)


def test_a_repair_without_a_detector_reads_no_scores(span) -> None:
    cells = span(detect={}, unlearn=one("ubt", detector=None))
    assert "detector" not in cells["unlearn/scenes/badnet/mmcl/seed0/ubt"].inputs


FT = [f"scenes/{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
BELOW_FT = {f"baselines/{cell}" for cell in FT} | {f"evaluate/{cell}/badnet" for cell in FT}
UNREPAIRED = {"methods": ["mmcl_ssl"], "attacks": ["badnet"]}


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"baselines": one("ft", rate=0.2)}, {*BELOW_FT, "report"}),
        ({"baselines": one("ft", rate=0.1)}, set()),  # the default, written out
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
def test_an_edit_changes_the_keys_of_its_cells_and_those_below(span, sections, expected) -> None:
    assert changed(span(), span(**sections)) == expected


@pytest.mark.parametrize(
    ("sections", "part"),
    [({"seeds": [0, 1]}, "/seed1"), ({"poison": attacks("badnet", "blended")}, "/blended")],
)
def test_a_new_seed_or_attack_adds_cells_and_changes_only_the_report(span, sections, part) -> None:
    before = {"poison": attacks("badnet")}
    names = changed(span(**before), span(**before | sections))
    assert {name for name in names if part not in name} == {"report"}


def test_the_target_changes_everything_below_poison(span) -> None:
    before, after = span(), span(poison=attacks("badnet", target="pear"))
    assert changed(before, after) == after.keys() - {"download/scenes"}


def test_a_setting_of_the_loop_is_in_the_key_of_the_victims(span) -> None:
    before, after = span(), span(pretrain=victims(loop={"chunk": 64}))
    assert VICTIM in changed(before, after)
    assert after[VICTIM].shared["loop"] == {"chunk": 64}


def test_the_class_of_a_method_is_in_its_key(span, monkeypatch) -> None:
    before = span()
    source = Path("clipmend/methods/detectors/ubt.py")
    source.write_text(source.read_text() + METHOD.format(cls="Other", setting="x: int = 1"))
    schema.forget()
    written = span()
    monkeypatch.setitem(table.METHODS["detect"], "ubt", table.Method("Other"))
    schema.forget()
    moved = span()
    for old, new in ((before, written), (written, moved)):
        changed = {name.partition("/")[0] for name in new if new[name].key != old[name].key}
        assert changed == {"detect", "unlearn", "evaluate", "report"}


def test_no_two_cells_have_the_same_key(span) -> None:
    same = {"ubt@a": {"rate": 0.1}, "ubt@b": {"rate": 0.1}}
    cells = span(unlearn={"methods": ["ubt", "ubt@a", "ubt@b"], "settings": same})
    assert len({cell.key for cell in cells.values()}) == len(cells)


@pytest.mark.parametrize(
    ("sections", "cell"),
    [
        ({"pretrain": victims(model="m.json")}, VICTIM),
        ({"poison": attacks("badnet", badnet={"surrogate": "m.json"})}, POISON),
    ],
)
def test_the_bytes_of_a_model_config_are_in_the_key(span, sections, cell) -> None:
    config = '{"vision_cfg": {"image_size": 32}, "text_cfg": {}}'
    Path("m.json").write_text(config)
    before = span(**sections)
    assert set(before[cell].files) == {"m.json"}
    Path("m.json").write_text(config.replace("32", "64"))
    assert cell in changed(before, span(**sections))


def test_the_name_of_a_known_model_is_not_read_as_a_file(span) -> None:
    Path("RN50").write_text("not read")
    assert span(poison=attacks("badnet", badnet={"surrogate": "RN50"}))[POISON].files == {}


def test_a_victim_that_starts_from_a_clean_one_reads_it_and_comes_after_it(span) -> None:
    poison = attacks() | {"methods": ["badnet", "unpoisoned"]}
    cells = span(poison=poison, pretrain=started("mmcl"))
    clean = "pretrain/scenes/unpoisoned/mmcl/seed0"
    for attack in ("badnet", "unpoisoned"):
        victim = cells[f"pretrain/scenes/{attack}/mmcl@from_clean/seed0"]
        assert victim.inputs["start"] == clean
        assert "start" not in cells[f"pretrain/scenes/{attack}/mmcl/seed0"].inputs
    order = list(cells)
    assert order.index(clean) < order.index("pretrain/scenes/badnet/mmcl@from_clean/seed0")


def test_further_numbers_change_the_evaluations_alone_and_none_change_nothing(span) -> None:
    plain, none = span(), span(evaluate={"confidence": 0.95, "further": []})
    asked = span(evaluate={"confidence": 0.95, "further": ["tower_swap"]})
    assert {name: cell.key for name, cell in plain.items()} == {
        name: cell.key for name, cell in none.items()
    }
    changed = {name for name in plain if plain[name].key != asked[name].key}
    assert {name.partition("/")[0] for name in changed} == {"evaluate", "report"}
    poisoned, clean = (
        asked[f"evaluate/scenes/{attack}/mmcl/seed0/none/badnet"].inputs
        for attack in ("badnet", "unpoisoned")
    )
    assert poisoned["clean"] == "pretrain/scenes/unpoisoned/mmcl/seed0"
    assert "clean" not in clean  # it would swap a model with itself
