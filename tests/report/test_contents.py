"""One list says what the report has; a new thing costs its own file and its lines there."""

import ast
import sys
from pathlib import Path
from subprocess import run

import pytest

from clipmend.engine import fingerprint
from clipmend.report import contents

REPORT = Path(contents.__file__).parent
ROOT = REPORT.parents[2]
PARTS = {
    "tables": (contents.TABLES, set()),
    "figures": (tuple(contents.FIGURES), {"finding"}),  # one per finding
}
every_part = pytest.mark.parametrize("folder", PARTS)


@every_part
def test_the_files_of_a_folder_are_the_names_of_the_list(folder) -> None:
    names, shared = PARTS[folder]
    files = {path.stem for path in (REPORT / folder).glob("*.py")}
    assert files - shared == {"__init__", *names}


@every_part
def test_each_name_loads_its_own_module_in_page_order(folder) -> None:
    names, _ = PARTS[folder]
    modules = getattr(contents, folder)()
    assert list(modules) == list(names)
    for name, module in modules.items():
        assert module.__name__ == f"clipmend.report.{folder}.{name}"


@every_part
def test_all_of_their_code_is_in_the_key_of_the_report(folder) -> None:
    covered = fingerprint.digests("clipmend.stages.report")
    assert {f"clipmend.report.{folder}.{name}" for name in PARTS[folder][0]} <= covered.keys()
    assert {f"clipmend.report.claims.{name}" for name in contents.CLAIMS} <= covered.keys()


def test_no_other_file_of_the_workflow_or_the_page_names_a_figure_or_a_table() -> None:
    files = [*ROOT.glob("workflow/rules/*.smk"), ROOT / "src/clipmend/stages/report.py"]
    files += [REPORT / "page.py", ROOT / "tests/workflow/conftest.py"]
    # Words that are also a setting, or a name of something else.
    other = {"findings", "detectors", "attacks", "gallery"}
    names = {*contents.TABLES, *contents.FIGURES} - other
    for file in files:
        text = file.read_text()
        assert not [name for name in names if f'"{name}"' in text or f"figures.{name}" in text], (
            file
        )


def test_the_list_alone_loads_nothing_heavy() -> None:
    heavy = {"torch", "matplotlib", "pandas", "scipy"}
    code = f"import sys, clipmend.report.contents; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_captions_of_snakemake_are_those_of_the_page(tmp_path) -> None:
    files = contents.write_captions(tmp_path)
    for name, module in contents.figures().items():
        assert files[name].read_text() == f"{module.CAPTION}\n"
        assert "n_" in module.CAPTION or "n = " in module.CAPTION


@every_part
def test_each_file_defines_what_the_report_asks_of_it(folder) -> None:
    kind = {"tables": contents.TableModule, "figures": contents.FigureModule}[folder]
    for name, module in getattr(contents, folder)().items():
        assert isinstance(module, kind), name
        assert ast.get_docstring(ast.parse(Path(module.__file__).read_text()))
