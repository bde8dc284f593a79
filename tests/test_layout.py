"""One name per thing, everywhere; read from the sources, so that nothing heavy is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clipmend.engine.fingerprint import FLOORS
from clipmend.methods.table import FOLDERS, METHODS, STAGES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "clipmend"
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


def stems(pattern: str) -> set[str]:
    return {path.stem for path in ROOT.glob(pattern)}


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (stems("src/clipmend/stages/*.py"), {"__init__"}),
        (stems("workflow/rules/*.smk"), set()),
        (yaml.safe_load((ROOT / "params.yaml").read_text()), {"seeds", "device", "arithmetic"}),
        (yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"], set()),
    ],
    ids=["modules", "rules", "params", "dvc"],
)
def test_the_names_are_those_of_the_stages(names, others) -> None:
    ours = [name for name in names if name not in others]
    assert ours == list(STAGES) if isinstance(names, dict) else set(ours) == set(STAGES)


def test_the_suite_mirrors_the_packages() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert folders - {"studies", "workflow"} == packages


def test_modules_import_from_lower_floors_only() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stage", METHODS)
def test_each_method_is_a_file_of_its_own_name_and_a_frozen_dataclass(stage) -> None:
    for name, method in METHODS[stage].items():
        tree = ast.parse(MODULES[f"methods/{FOLDERS[stage]}/{name}.py"].read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        decorators = {ast.unparse(decorator) for decorator in classes[method.cls].decorator_list}
        assert "dataclass(frozen=True)" in decorators, f"{stage}: {name}"


@pytest.mark.parametrize("name", MODULES)
def test_each_module_says_what_it_is_and_stays_short_and_alive_for_the_checks_of_shapes(
    name,
) -> None:
    text = MODULES[name].read_text()
    tree = ast.parse(text)
    first, *_ = (ast.get_docstring(tree) or "").splitlines() or [""]
    assert first.endswith((".", ":"))
    assert len(text.splitlines()) <= 400
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {f.name: body_length(f) for f in ast.walk(tree) if isinstance(f, functions)}
    assert {name: length for name, length in lengths.items() if length > 50} == {}
    is_root = name == "__init__.py"  # it offers `suspects` and `mend`, and runs nothing
    assert len(tree.body) == 1 or MODULES[name].stem != "__init__" or is_root
    assert MODULES[name].stem not in {"utils", "util", "helpers", "misc", "common"}
    assert "from __future__ import annotations" not in text


def test_an_import_of_the_package_runs_nothing_and_imports_nothing_heavy() -> None:
    tree = ast.parse(MODULES["__init__.py"].read_text())
    kinds = [type(node) for node in tree.body]
    assert kinds == [ast.Expr, ast.ImportFrom, ast.If, ast.FunctionDef]
    keyed = [MODULES[name].read_text() for name in MODULES if name.startswith(FLOORS)]
    assert not [
        text for text in keyed if "from clipmend import" in text or "import clipmend\n" in text
    ]
    code = "import sys, clipmend; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def body_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0
