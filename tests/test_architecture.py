"""The pages for contributors: each path exists, each name is in its file, each example runs."""

import ast
import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
CODE_MAP = ROOT / "docs" / "reference" / "code-map.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PATH = re.compile(
    r"`((?:src|tests|docs|params|workflow|studies|benchmarks)/[\w./@-]*|[\w-]+\.(?:toml|yaml|yml))`"
)
EXAMPLES = dict(
    re.findall(r"```python\n# (\S+\.py)\n(\"\"\".*?)```", CONTRIBUTING.read_text(), flags=re.DOTALL)
)


@pytest.mark.parametrize("page", [ARCHITECTURE, CODE_MAP, CONTRIBUTING], ids=lambda page: page.stem)
def test_every_path_that_a_page_names_exists(page) -> None:
    paths = set(PATH.findall(page.read_text())) - EXAMPLES.keys()
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_number_of_the_report_is_computed_by_a_function_of_the_file_that_is_named() -> None:
    _, section = CODE_MAP.read_text().split("## Where does this number come from?")
    rows = re.findall(r"^\|.*src/.*$", section, flags=re.MULTILINE)
    assert len(rows) >= 15
    for row in rows:
        cell = row.split("|")[3]
        names = set(re.findall(r"`([A-Za-z_.]+)`", cell))
        folders = [ROOT / path for path in re.findall(r"`(src/[\w./]+)`", cell)]
        files = [f for path in folders for f in (path.rglob("*.py") if path.is_dir() else [path])]
        defined = {name for file in files for name in definitions(file)}
        assert names <= defined, row


def definitions(file: Path) -> set[str]:
    """Return the functions, the classes and the methods, these also as ``Class.method``."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            names |= methods | {f"{node.name}.{method}" for method in methods}
    return names


@pytest.mark.parametrize("path", EXAMPLES)
def test_every_example_of_contributing_is_a_module_that_imports(path) -> None:
    if path.startswith("tests/"):
        ast.parse(EXAMPLES[path])  # it imports the method beside it, which is an example too
        return
    namespace: dict[str, object] = {"__name__": f"example.{Path(path).stem}"}
    exec(compile(EXAMPLES[path], path, "exec"), namespace)
    if path.startswith("src/clipmend/methods/"):
        classes = (value for value in namespace.values() if isinstance(value, type))
        (method,) = (cls for cls in classes if cls.__module__ == namespace["__name__"])
        assert is_dataclass(method)
        method()  # every setting has a default
