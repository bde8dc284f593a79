"""One list says what the report has; a new thing costs its own file and its lines there."""

import sys
from pathlib import Path
from subprocess import run

import pytest

from clipmend.engine import fingerprint
from clipmend.report import contents

REPORT = Path(contents.__file__).parent
ROOT = REPORT.parents[2]
# Folder: what each of its modules defines, and the files that the list leaves out.
PARTS = {
    "tables": ({"TITLE", "section"}, set()),
    "figures": ({"TITLE", "CAPTION", "EMPTY", "plot"}, {"finding"}),  # one per finding
    "claims": ({"CLAIM", "check"}, {"check", "cleanings", "outcomes", "victims"}),
}


@pytest.mark.parametrize("folder", PARTS)
def test_each_file_of_a_folder_is_listed_defines_its_part_and_is_in_the_key(folder) -> None:
    defines, shared = PARTS[folder]
    modules = getattr(contents, folder)()
    files = {path.stem for path in (REPORT / folder).glob("*.py")}
    assert files - shared == {"__init__", *modules}
    covered = fingerprint.digests("clipmend.stages.report")
    for name, module in modules.items():
        assert module.__name__ == f"clipmend.report.{folder}.{name}"
        assert module.__name__ in covered
        assert defines <= vars(module).keys()
        assert module.__doc__


def test_the_page_and_the_workflow_list_figures_in_one_order() -> None:
    assert list(contents.figures()) == list(contents.FIGURES)


def test_no_other_file_of_the_workflow_or_the_page_names_a_figure_or_a_table() -> None:
    files = [*ROOT.glob("workflow/rules/*.smk"), ROOT / "src/clipmend/stages/report.py"]
    files += [REPORT / "page.py", ROOT / "tests/workflow/conftest.py"]
    # Words that are also a setting, or a name of something else.
    other = {"findings", "detectors", "attacks", "gallery"}
    names = {*contents.tables(), *contents.FIGURES} - other
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
