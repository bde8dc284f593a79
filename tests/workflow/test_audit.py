"""Audits of real runs: between revisions, against the workspace, in a clone without models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FT = [f"baselines/scenes/{attack}/mmcl/seed0/ft" for attack in ("badnet", "unpoisoned")]
RANDOM = [f"unlearn/scenes/{attack}/mmcl/seed0/ubt@random" for attack in ("badnet", "unpoisoned")]


def commit(project: Any, tag: str) -> None:
    """Commit a finished run, with dvc.lock in step, under a tag."""
    assert project.repro() == []
    project.commit(tag)


def audit(project: Any, *sides: str, code: int = 0) -> dict[str, Any]:
    done = project.call("clipmend", "audit", *sides, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def causes(comparison: dict[str, Any]) -> dict[str, list[str]]:
    return {
        f"{cause['kind']} {cause['what']}: {cause['old']} {cause['new']}": cause["cells"]
        for cause in comparison["causes"]
    }


@pytest.fixture(scope="module")
def history(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project with two committed runs that differ in a parameter, a code file and a package."""
    project = finished.copy(tmp_path_factory.mktemp("history") / "project")
    commit(project, "one")
    random = {"rate": 0.3}
    project.params(unlearn={"methods": ["ubt", "ubt@random"], "settings": {"ubt@random": random}})
    project.edit("src/clipmend/methods/repairs/ft.py", "rate: Fraction", "strength: Fraction")
    metadata = (
        project.root / "src/torch-99.0.dist-info/METADATA"
    )  # has precedence over the installed package
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
    project.run()
    commit(project, "two")
    return project


@pytest.fixture
def clone(history: Any, tmp_path: Path) -> Any:
    """A clone of both runs, without any model."""
    return history.clone(tmp_path / "clone")


def test_every_change_between_two_revisions_has_its_cause_without_any_model(clone: Any) -> None:
    folders = [path.name for path in clone.root.joinpath("results").iterdir() if path.is_dir()]
    assert folders == ["report"]
    comparison = audit(clone, "one", "two")
    unread = causes(comparison)
    cells = unread.pop("parameter unlearn.settings.ubt@random.rate: 0.2 0.3")
    assert cells == sorted(RANDOM)
    (move,) = comparison["moves"]
    renamed = ("baselines.settings.ft.rate", "baselines.settings.ft.strength")
    assert (move["old"], move["new"], move["cells"]) == (*renamed, len(FT))
    (code,) = [cause for cause in unread if cause.startswith("code ")]
    assert re.match(
        r"code src/clipmend/methods/repairs/ft.py \(FT\): [0-9a-f]{8} [0-9a-f]{8}", code
    )
    assert unread.pop(code) == FT
    ((environment, cells),) = unread.items()
    assert re.match(r"environment packages.torch: \S+ 99.0", environment)
    assert len(cells) == 4 + 4 + 1  # repairs, their numbers, the report
    changes = {change["cell"]: change for change in comparison["changes"]}
    assert all(change["causes"] or change["inputs"] for change in changes.values())
    assert set(cells) == changes.keys()
    assert comparison["same"] == 22 - len(changes)
    numbers = {cell: change["numbers"] for cell, change in changes.items() if change["numbers"]}
    assert all(cell.startswith("evaluate/") for cell in numbers)
    assert len(numbers) == 4
    assert all(rates.keys() <= {"CA", "ASR"} for rates in numbers.values())


def test_a_committed_table_edited_by_hand_is_unexplained(clone: Any) -> None:
    table = clone.root / "results/report/table.md"
    table.write_text(table.read_text() + "| ours | 100.0 |\n")
    workspace = causes(audit(clone, "two", code=1))
    assert list(workspace) == [
        "unexplained report: table.md is not what its card says, in workspace:  "
    ]
    clone.commit("ours")
    head = causes(audit(clone, "two", "HEAD", code=1))
    assert list(head) == ["unexplained report: table.md is not what its card says, in HEAD:  "]


def test_a_model_edited_by_hand_is_unexplained_in_the_workspace_and_after_dvc_commit(
    history: Any, tmp_path: Path
) -> None:
    project = history.copy(tmp_path / "project")
    assert audit(project, "two")["changes"] == []
    model = project.root / "results" / FT[0] / "model.safetensors"
    model.unlink()
    model.write_text("a better model")
    (cause,) = causes(audit(project, "two", code=1))
    assert cause.startswith(f"unexplained {FT[0]}: model.safetensors is not what its card says")
    project.succeed("dvc", "commit", "-f", "baselines")
    project.commit("better")
    (cause,) = causes(audit(project, "two", "HEAD", code=1))
    assert cause.startswith("unexplained baselines: dvc.lock names other files than the cards do")


def test_two_folders_of_results_can_be_compared(history: Any, finished: Any) -> None:
    first, second = finished.root / "results", history.root / "results"
    comparison = audit(history, str(first), str(second))
    assert {change["cell"] for change in comparison["changes"]} >= {*FT, *RANDOM}
    report = audit(history, str(first / "report"), str(second / "report"))
    assert causes(report) == causes(comparison)


def test_the_graph_has_the_changed_cells(clone: Any) -> None:
    page = clone.succeed("clipmend", "audit", "one", "two", "--graph", "audit/graph.md")
    assert "unlearn.settings.ubt@random.rate: 0.2 → 0.3" in page
    graph = (clone.root / "audit/graph.md").read_text()
    assert "```mermaid" in graph
    assert graph.count(" --> ") >= 3
    assert "ubt@random" in graph


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (["nothing"], "'nothing' is neither a folder nor a git revision"),
        (["two", "src"], "src has no results/report/cards.jsonl"),
        (["two~5"], "'two~5' is neither"),
    ],
)
def test_a_missing_side_is_an_error_of_one_line_and_exit_2(
    clone: Any, sides: list[str], message: str
) -> None:
    done = clone.call("clipmend", "audit", *sides)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
