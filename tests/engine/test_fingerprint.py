"""The digest of a module: its meaning, and that of all modules that it imports."""

import os
from pathlib import Path

import pytest

from clipmend.engine import fingerprint
from clipmend.errors import PlanError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ("x = 1  # why\n", True),
        ('"""Doc."""\n\nx = (1)\n', True),
        ('x = 1\n"""The number."""\n', True),
        *((text, False) for text in ("x = 2\n", "x = '1'\n", "y = 1\n", "x: int = 1\n")),
    ],
)
def test_a_digest_depends_on_the_meaning_but_not_on_comments_docstrings_or_layout(
    write, text, is_same
) -> None:
    write("a.py", "x = 1\n")
    before = fingerprint.digests("clipmend.a")
    write("a.py", text)
    assert (fingerprint.digests("clipmend.a") == before) is is_same


def test_the_closure_follows_every_form_of_import_into_the_keyed_packages_alone(write) -> None:
    write(
        "data/one.py",
        "import os\nimport clipmend.model.b\nfrom clipmend.data import two\n"
        "from clipmend.data.three import x\nfrom clipmend.engine.plan import load\n"
        "from clipmend.methods.table import create\n"
        "def f():\n    from clipmend.metrics import late\n",
    )
    others = ("engine/plan", "methods/table", "data/unused")
    for name in ("model/b", "data/two", "data/three", "metrics/late", *others):
        write(f"{name}.py", "import clipmend.data.one\n")
    names = ("data.one", "data.three", "data.two", "metrics.late", "model.b")
    assert list(fingerprint.digests("clipmend.data.one")) == [f"clipmend.{name}" for name in names]


def test_code_of_a_package_is_in_the_digests_of_its_modules(write) -> None:
    write("data/one.py", "import clipmend.data.deep.two\n")
    write("data/deep/two.py", "x = 1\n")
    write("__init__.py", '"""Doc."""\n')
    write("data/deep/__init__.py", '"""Doc."""\n')
    before = fingerprint.digests("clipmend.data.one")
    assert list(before) == ["clipmend.data.deep.two", "clipmend.data.one"]
    # What the package offers its users runs nothing when it is imported.
    write("__init__.py", "from typing import Any\n\n\ndef __getattr__(name: str) -> Any: ...\n")
    fingerprint.forget()
    assert fingerprint.digests("clipmend.data.one") == before
    write("data/deep/__init__.py", '"""Doc."""\n\nfrom . import three\n')
    write("data/deep/three.py", "x = 1\n")
    write("__init__.py", "x = 1\n")
    new = fingerprint.digests("clipmend.data.one").keys() - before.keys()
    assert new == {"clipmend", "clipmend.data.deep", "clipmend.data.deep.three"}
    assert "x" not in fingerprint.parts("clipmend.data.deep")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\0\n", "clipmend.a does not parse: source code .* null bytes"),
        ("def (", "clipmend.a does not parse"),
        ("(" * 5000, "clipmend.a does not parse"),
        ("x = " + "-" * 200_000 + "1", "clipmend.a does not parse: too deep"),
        ("x = " + "+".join(["1"] * 900), "clipmend.a cannot be hashed: maximum recursion depth"),
        ('PACKAGE_DATA = ("gone.json",)\n', "gone.json, which clipmend.a reads, is not beside it"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_line(write, text, message) -> None:
    write("a.py", text)
    with pytest.raises(PlanError, match=message) as refused:
        fingerprint.digests("clipmend.a")
    assert "\n" not in str(refused.value)
    with pytest.raises(PlanError, match=r"clipmend\.none does not exist"):
        fingerprint.digests("clipmend.none")


def test_a_pipe_in_the_place_of_a_source_or_of_its_data_is_not_opened(write, tmp_path) -> None:
    write("a.py", 'PACKAGE_DATA = ("pipe.json",)\n')
    for name in ("pipe.json", "b.py"):
        os.mkfifo(tmp_path / "clipmend" / name)
    with pytest.raises(PlanError, match=r"^pipe.json, which clipmend.a reads, is not a file\.$"):
        fingerprint.digests("clipmend.a")
    with pytest.raises(PlanError, match=r"^Module clipmend.b is not a file, but a pipe"):
        fingerprint.digests("clipmend.b")


def test_declared_package_data_is_in_the_digest(write) -> None:
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


def test_the_constants_of_a_module_are_its_level_without_the_imports(write) -> None:
    def level(text: str) -> tuple[str, str]:
        write("a.py", text)
        parts = fingerprint.parts("clipmend.a")
        return parts[fingerprint.MODULE_LEVEL], parts[fingerprint.CONSTANTS]

    plain, imported, changed = map(level, ("X = 1\n", "import os\n\nX = 1\n", "X = 2\n"))
    assert imported[0] != plain[0]
    assert imported[1] == plain[1]
    assert changed[1] != plain[1]
