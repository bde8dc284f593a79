"""A digest is of meaning, over what is imported; settings are read without importing anything."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from clipmend.engine import fingerprint, schema
from clipmend.errors import PlanError
from clipmend.methods.settings import OutsideFile

ROOT = Path(__file__).parents[2]

METHOD = """
from dataclasses import dataclass
from typing import ClassVar, Literal

from clipmend.methods.detectors.parent import Parent
from clipmend.methods.settings import Count, InputPath, PositiveFraction

Kind = Literal["a", "b"]


@dataclass(frozen=True)
class Method(Parent):
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
"""

PARENT = """
from dataclasses import dataclass
from typing import Protocol


class Like(Protocol):
    other: int


@dataclass(frozen=True)
class Parent(Like):
    budget: int
"""

Write = Callable[[str, str], None]


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # why\n",
        '"""Doc."""\n\nx = (1)\n',
        'x = 1\n"""What x is."""\n',
    ],
)
def test_comments_docstrings_and_layout_do_not_count(write: Write, text: str) -> None:
    write("a.py", "x = 1\n")
    before = fingerprint.digests("clipmend.a")
    write("a.py", text)
    assert fingerprint.digests("clipmend.a") == before


@pytest.mark.parametrize("text", ["x = 2\n", "x = '1'\n", "y = 1\n", "x: int = 1\n"])
def test_what_means_something_else_counts(write: Write, text: str) -> None:
    write("a.py", "x = 1\n")
    before = fingerprint.digests("clipmend.a")
    write("a.py", text)
    assert fingerprint.digests("clipmend.a") != before


def test_the_closure_follows_every_form_of_import_into_the_keyed_packages_alone(
    write: Write,
) -> None:
    write(
        "data/one.py",
        "import os\nimport clipmend.model.b\nfrom clipmend.data import two\n"
        "from clipmend.data.three import x\nfrom clipmend.engine.plan import load\n"
        "from clipmend.methods.table import create\n"
        "def f():\n    from clipmend.metrics import late\n",
    )
    others = ("engine/plan", "methods/table", "data/unused", "data/__init__")
    for name in ("model/b", "data/two", "data/three", "metrics/late", *others):
        write(f"{name}.py", "import clipmend.data.one\n")
    names = ("data.one", "data.three", "data.two", "metrics.late", "model.b")
    assert list(fingerprint.digests("clipmend.data.one")) == [f"clipmend.{name}" for name in names]


def test_declared_package_data_counts(write: Write) -> None:
    write("a.py", 'PACKAGE_DATA = ("words.json",)\n')
    write("words.json", "[]")
    before = fingerprint.digests("clipmend.a")
    write("words.json", "[1]")
    assert fingerprint.digests("clipmend.a") != before


def test_every_data_file_of_the_package_is_declared_by_a_module() -> None:
    package = ROOT / "src/clipmend"
    declared = {
        module.parent / name
        for module in package.rglob("*.py")
        for name in fingerprint._package_data(fingerprint.ast.parse(module.read_text()))
    }
    data = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert {path for path in data - declared if path.parent.name != "configs"} == set()


def test_settings_are_the_fields_of_the_dataclass_and_of_its_dataclass_parents(
    write: Write,
) -> None:
    write("methods/detectors/m.py", METHOD)
    write("methods/detectors/parent.py", PARENT)
    model = schema.declaration("clipmend.methods.detectors.m", "Method")
    assert model(budget=1).model_dump() == {
        "budget": 1,
        "share": 0.5,
        "steps": 3,
        "kind": "a",
        "names": ("x",),
        "path": None,
        "least": -1.0,
    }


@pytest.mark.parametrize(
    "settings", [{}, {"share": 0}, {"steps": 0}, {"kind": "c"}, {"needs": ("x",)}, {"steps": 1.5}]
)
def test_settings_that_do_not_fit_are_refused(write: Write, settings: dict[str, object]) -> None:
    write("methods/detectors/m.py", METHOD)
    write("methods/detectors/parent.py", PARENT)
    required = {"budget": 1} if settings else {}
    with pytest.raises(ValidationError):
        schema.declaration("clipmend.methods.detectors.m", "Method").model_validate(
            {**required, **settings}
        )


def test_a_setting_that_is_a_file_of_the_users_is_known(write: Write) -> None:
    write("methods/detectors/m.py", METHOD)
    write("methods/detectors/parent.py", PARENT)
    model = schema.declaration("clipmend.methods.detectors.m", "Method")
    assert schema.marked(model(budget=1), OutsideFile) == {}
    assert schema.marked(model(budget=1, path="data/x"), OutsideFile) == {"path": "data/x"}


@pytest.mark.parametrize(
    "line", ["x: Tensor = 1", "x: int = field(default=1)", "x: torch.Tensor = 1"]
)
def test_a_setting_that_cannot_be_read_says_what_can(write: Write, line: str) -> None:
    write("a.py", f"@dataclass(frozen=True)\nclass A:\n    {line}\n")
    with pytest.raises(PlanError, match=r"type of clipmend\.methods\.settings"):
        schema.declaration("clipmend.a", "A")
