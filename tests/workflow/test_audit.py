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
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def causes(found: dict[str, Any]) -> dict[str, list[str]]:
    return {f"{c['kind']} {c['what']}: {c['old']} {c['new']}": c["cells"] for c in found["causes"]}


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
    assert [path.name for path in clone.root.joinpath("results").iterdir() if path.is_dir()] == [
        "report"
    ]
    found = audit(clone, "one", "two")
    told = causes(found)
    parameter = told.pop("parameter unlearn.settings.ubt@random.rate: 0.2 0.3")
    assert parameter == sorted(RANDOM)
    (moved,) = found["moves"]
    assert (moved["old"], moved["new"], moved["cells"]) == (
        *("baselines.settings.ft.rate", "baselines.settings.ft.strength"),
        len(FT),
    )
    (code,) = [cause for cause in told if cause.startswith("code ")]
    assert re.match(
        r"code src/clipmend/methods/repairs/ft.py \(FT\): [0-9a-f]{8} [0-9a-f]{8}", code
    )
    assert told.pop(code) == FT
    ((environment, cells),) = told.items()
    assert re.match(r"environment packages.torch: \S+ 99.0", environment)
    assert len(cells) == 4 + 4 + 1  # repairs, their numbers, the report
    changed = {change["cell"] for change in found["changes"]}
    assert all(change["causes"] or change["inputs"] for change in found["changes"])
    assert set(cells) == changed
    assert found["same"] == 22 - len(changed)


def test_the_numbers_before_and_after_are_listed_with_the_cells_that_measured_them(
    clone: Any,
) -> None:
    found = audit(clone, "one", "two")
    moved = {change["cell"]: change["numbers"] for change in found["changes"] if change["numbers"]}
    assert set(moved) <= {
        f"evaluate/scenes/{attack}/mmcl/seed0/{repair}/badnet"
        for attack in ("badnet", "unpoisoned")
        for repair in ("ft", "ubt@random")
    }
    assert len(moved) == 4
    assert all(rates.keys() <= {"CA", "ASR"} for rates in moved.values())


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
    found = audit(history, str(first), str(second))
    assert {change["cell"] for change in found["changes"]} >= {*FT, *RANDOM}
    report = audit(history, str(first / "report"), str(second / "report"))
    assert causes(report) == causes(found)


def test_the_graph_has_the_changed_cells(clone: Any) -> None:
    done = clone.call("clipmend", "audit", "one", "two", "--graph", "audit/graph.md")
    assert done.returncode == 0
    assert "unlearn.settings.ubt@random.rate: 0.2 → 0.3" in done.stdout
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
