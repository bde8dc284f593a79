"""The notebooks are stored without outputs, and run from their first cell to their last."""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.tools.test_demo import TINY

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
is_long = pytest.mark.skipif(
    "CLIPMEND_FAULTS" not in os.environ, reason="takes minutes: `make faults` runs it"
)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_a_title_and_no_outputs_and_its_links_lead_somewhere(name: str) -> None:
    cells = nbformat.read(NOTEBOOKS[name], as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    for cell in cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
        else:
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", cell.source):
                assert (NOTEBOOKS[name].parent / link).exists(), link
    assert f"notebooks/{name}.ipynb" in (ROOT / "README.md").read_text()


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook in a folder, and return what each of its code cells printed."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    folder.mkdir(exist_ok=True)
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=place).execute()
    return [
        "".join(str(out.get("text", "") or out.get("data", "")) for out in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's libraries
def test_the_audit_traces_a_number_and_finds_an_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "results" / "report", tmp_path / "results" / "report")
    printed = executed("audit", tmp_path / "notebooks", monkeypatch)
    assert "download/scenes" in printed[2]
    assert "0 changed" in printed[4]
    assert "unexplained" in printed[5]
    assert "exit code 1" in printed[5]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_model_of_ones_own_is_inspected_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = tmp_path / "notebooks" / "params"  # where a preset of one's own comes first
    presets.mkdir(parents=True)
    (presets / "demo.yaml").write_text(TINY)
    printed = executed("repair", tmp_path / "notebooks", monkeypatch)
    assert "keep their nearest caption" in printed[-2]
    assert "## What was found" in printed[-1]


@is_long
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_one_changed_parameter_makes_its_own_cells_again_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    printed = executed("compare", tmp_path / "notebooks", monkeypatch)
    again = [line for line in printed[5].splitlines() if line.startswith("Job ")]
    assert len(again) == 3, again  # the repair, its evaluation, and the report
    assert "baselines.settings.ft.lr" in printed[6]
    assert printed[8].split() == ["0"]
