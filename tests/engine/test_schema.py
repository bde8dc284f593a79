"""Settings are read from the source of a method, without importing it."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel, ValidationError

from clipmend.engine import schema
from clipmend.errors import PlanError
from clipmend.methods.settings import OutsideFile

METHOD = '''
from dataclasses import dataclass
from typing import ClassVar, Literal

from clipmend.methods.detectors.parent import Parent
from clipmend.methods.settings import Count, InputPath, PositiveFraction

Kind = Literal["a", "b"]


@dataclass(frozen=True)
class Method(Parent):
    """Score pairs.

    Attributes:
        steps: how many steps
            are taken, at most.
        share: of ``pairs``.

    Raises:
        ValueError: never.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)
    share: PositiveFraction = 0.5
    steps: Count = 3
    kind: Kind = "a"
    names: tuple[str, ...] = ("x",)
    path: InputPath | None = None
    least: float = -1.0

    @property
    def half(self) -> float:
        return self.share / 2
'''

PARENT = '''
from dataclasses import dataclass
from typing import Protocol


class Like(Protocol):
    other: int


@dataclass(frozen=True)
class Parent(Like):
    """Score.

    Attributes:
        budget: of the base.
        least: rate of learning.
        share: not that of the class.
    """

    budget: int
    least: float = 0.2
    share: float = 0.1
'''

Write = Callable[[str, str], None]


@pytest.fixture
def model(write: Write) -> type[BaseModel]:
    write("methods/detectors/m.py", METHOD)
    write("methods/detectors/parent.py", PARENT)
    return schema.declaration("clipmend.methods.detectors.m", "Method")


def test_settings_are_the_fields_of_the_dataclass_and_of_its_dataclass_parents(model) -> None:
    settings = {"share": 0.5, "steps": 3, "kind": "a", "names": ("x",), "path": None, "least": -1.0}
    assert model(budget=1).model_dump() == {"budget": 1} | settings


@pytest.mark.parametrize(
    "settings", [{}, {"share": 0}, {"steps": 0}, {"kind": "c"}, {"needs": ("x",)}, {"steps": 1.5}]
)
def test_wrong_settings_are_refused(model, settings) -> None:
    required = {"budget": 1} if settings else {}
    with pytest.raises(ValidationError):
        model.model_validate({**required, **settings})


def test_a_setting_that_is_a_file_of_the_user_is_marked(model) -> None:
    assert schema.marked(model(budget=1), OutsideFile) == {}
    assert schema.marked(model(budget=1, path="data/x"), OutsideFile) == {"path": "data/x"}


@pytest.mark.parametrize(
    "line", ["x: Tensor = 1", "x: int = field(default=1)", "x: torch.Tensor = 1"]
)
def test_a_setting_of_another_type_is_refused_with_the_allowed_types(write, line) -> None:
    write("a.py", f"@dataclass(frozen=True)\nclass A:\n    {line}\n")
    with pytest.raises(PlanError, match=r"type of clipmend\.methods\.settings"):
        schema.declaration("clipmend.a", "A")


def test_a_setting_is_described_by_its_class_or_else_by_a_base(model) -> None:
    described = {name: field.description for name, field in model.model_fields.items()}
    assert {name: text for name, text in described.items() if text} == {
        "budget": "of the base.",
        "least": "rate of learning.",
        "share": "of `pairs`.",
        "steps": "how many steps are taken, at most.",
    }


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("class Method(Method):", "x: int = 1"),
        ("class Method(Other):", "x: int = 1"),
        ("class Method:", "x: Loop = 1"),
        ("class Method:", "x: int.y = 1"),
        ("class Method:", "_x: int = 1"),
        ("class Method(Gone):", "x: int = 1"),
    ],
)
def test_a_source_whose_settings_lead_nowhere_is_refused_in_one_line(write, head, line) -> None:
    above = "from dataclasses import dataclass\nfrom clipmend.gone import Gone\n\nLoop = Loop\n\n\n"
    write("a.py", f"{above}class Other(Method): ...\n\n\n@dataclass\n{head}\n    {line}\n")
    with pytest.raises(PlanError) as refused:
        schema.declaration("clipmend.a", "Method")
    assert "\n" not in str(refused.value)
