"""One name per thing, everywhere; read from the sources, so that nothing heavy is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clipmend.methods.table import FOLDERS, METHODS, STAGES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "clipmend"
MODULES = sorted(PACKAGE.rglob("*.py"))
every_stage = pytest.mark.parametrize("stage", STAGES)
every_module = pytest.mark.parametrize(
    "module", MODULES, ids=[str(module.relative_to(PACKAGE)) for module in MODULES]
)


def read_yaml(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text())


@every_stage
def test_each_stage_has_its_file(stage: str) -> None:
    assert (PACKAGE / "stages" / f"{stage}.py").exists()


def test_the_files_of_stages_are_the_stages() -> None:
    files = {path.stem for path in (PACKAGE / "stages").glob("*.py")}
    assert files == {"__init__", *STAGES}


def test_the_rule_files_are_the_stages() -> None:
    rules = {path.stem for path in (ROOT / "workflow" / "rules").glob("*.smk")}
    assert rules == set(STAGES)


def test_the_sections_of_params_are_the_stages() -> None:
    sections = [
        key
        for key in read_yaml(ROOT / "params.yaml")
        if key not in ("seeds", "device", "arithmetic")
    ]
    assert sections == list(STAGES)


def test_the_dvc_stages_are_the_stages() -> None:
    assert list(read_yaml(ROOT / "dvc.yaml")["stages"]) == list(STAGES)


def test_the_suite_mirrors_the_packages() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert folders - {"studies", "workflow"} == packages


def test_modules_import_from_lower_floors_only() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stage", METHODS)
def test_each_method_is_a_file_of_its_own_name_and_a_frozen_dataclass(stage: str) -> None:
    for name, method in METHODS[stage].items():
        folder = PACKAGE / "methods" / FOLDERS[stage]
        tree = ast.parse((folder / f"{name}.py").read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        decorators = {ast.unparse(decorator) for decorator in classes[method.cls].decorator_list}
        assert "dataclass(frozen=True)" in decorators, f"{stage}: {name}"


@every_module
def test_each_module_says_in_one_line_what_it_is(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@every_module
def test_no_module_is_longer_than_400_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 400


@every_module
def test_no_function_is_longer_than_50_lines(module: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: body_length(f) for f in functions if body_length(f) > 50}
    assert not long


def body_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "init", sorted(PACKAGE.rglob("__init__.py")), ids=lambda init: init.parent.name
)
def test_init_files_hold_a_docstring_only(init: Path) -> None:
    tree = ast.parse(init.read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@every_module
def test_no_module_is_an_attic(module: Path) -> None:
    assert module.stem not in {"utils", "util", "helpers", "misc", "common"}


@every_module
def test_annotations_stay_alive_for_the_checks_of_shapes(module: Path) -> None:
    assert "from __future__ import annotations" not in module.read_text()
