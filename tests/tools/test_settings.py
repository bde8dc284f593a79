"""The reference of settings is in step with the code, complete, and usable by an editor."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema  # Snakemake depends on it
import pytest

from clipmend.engine import params, presets
from clipmend.engine.params import Params, Section
from clipmend.methods import table
from clipmend.tools import settings

ROOT = Path(__file__).parents[2]
METHODS = [(stage, name) for stage, methods in table.METHODS.items() for name in methods]


def sections(section: type[Section] = Params) -> list[type[Section]]:
    inner = settings.nested(section).values()
    return [section, *(part for one in inner for part in sections(one))]


def test_both_files_are_in_step_with_the_code() -> None:
    told = "run `make settings`"
    assert (ROOT / settings.REFERENCE).read_text() == settings.reference(), told
    assert json.loads((ROOT / settings.JSON_SCHEMA).read_text()) == settings.json_schema(), told


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_setting_of_a_section_has_a_sentence_of_its_own(section: type[Section]) -> None:
    rows = settings.settings(section).values()
    texts = [row.sentence for row in rows]
    assert all(text.endswith(".") for text in texts)
    assert len(set(texts)) == len(texts)


def undescribed() -> list[str]:
    """Return every setting of a method without a sentence, or with that of another setting."""
    names = []
    for stage, method in METHODS:
        rows = settings.method_settings(stage, method).values()
        texts = [row.sentence for row in rows]
        names += [f"{stage}.{method}.{row.name}" for row in rows
                  if not row.sentence or texts.count(row.sentence) > 1]  # fmt: skip
    return names


def test_every_setting_of_a_method_has_a_sentence_of_its_own() -> None:
    assert undescribed() == []


@pytest.fixture(scope="module")
def validator() -> Any:
    document = settings.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("name", list(presets.presets()))
def test_an_editor_accepts_every_preset(validator: Any, name: str) -> None:
    assert [error.message for error in validator.iter_errors(written(name))] == []


def written(name: str) -> Any:
    return presets.values(presets.preset(name))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("sedes",), [1]),
        (("seeds",), [-1]),
        (("evaluate", "adversarial", "epsilons"), [0]),
        (("detect", "methods"), ["upt"]),
        (("detect", "settings", "upt"), {}),
        (("detect", "settings", "ubt"), {"view": 4}),
        (("detect", "settings", "ubt@x"), {"rank": "gains"}),
        (("baselines", "settings", "ft"), {"lr": 0}),
        (("download", "settings", "scenes"), {"train": "many"}),
    ],
)
def test_an_editor_refuses_what_a_run_refuses(validator: Any, key: Any, value: Any) -> None:
    values = copy.deepcopy(written("default"))
    block = values
    for name in key[:-1]:
        block = block[name]
    block[key[-1]] = value
    with pytest.raises(params.ParamsError):
        params.checked(values)
    assert not validator.is_valid(values)


def test_a_setting_can_be_looked_up_with_its_range_and_its_default() -> None:
    lines = settings.reference().splitlines()
    (row,) = [line for line in lines if line.startswith("| `evaluate.confidence`")] or [
        line for line in lines if line.startswith("| `confidence`")
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["number, above 0, below 1", "`0.95`", "confidence level of all intervals."]
