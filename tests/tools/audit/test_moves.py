"""`clipmend audit` between two layouts of the code reports a move as a move."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clipmend import cli

VICTIM = "scenes/badnet/mmcl/seed0"
PRETRAIN, OLD, NEW = f"pretrain/{VICTIM}", f"baselines/{VICTIM}/abl", f"unlearn/{VICTIM}/abl"
FUNCTIONS = {"fit": "f1", "ABL": "a1", "ABL.task": "a2"}


@pytest.fixture
def old(a: Any, functions: Any) -> Any:
    """The run of the old layout: ABL is a baseline, in `clipmend.baselines.abl`."""
    inputs = a.cells.pop(f"baselines/{VICTIM}/ft")
    del a.cells[f"evaluate/{VICTIM}/ft/badnet"]
    a.cells |= {OLD: inputs, f"evaluate/{VICTIM}/abl/badnet": ["download/scenes", OLD]}
    a.parts[OLD] = {"code": {"clipmend.baselines.abl": "o1"}, "settings": {"moves": "all"}}
    a.report["code.json"] = functions(
        baselines__abl=FUNCTIONS | {"digest": "o1", "module level": "imports of old names"}
    )
    a.file = "belief.json"
    return a


@pytest.fixture
def new(b: Any, old: Any, functions: Any) -> Any:
    """The same run in the new layout: cells, modules, settings and files have other names."""
    b.cells = {
        cell.replace(OLD, NEW): [name.replace(OLD, NEW) for name in inputs]
        for cell, inputs in old.cells.items()
    }
    b.parts[NEW] = {
        "code": {"clipmend.methods.repairs.abl": "n1"},
        "settings": {"trainable": "all"},
    }
    b.report["code.json"] = functions(
        methods__repairs__abl=FUNCTIONS | {"digest": "n1", "module level": "imports of new names"}
    )
    b.file = "finding.json"
    return b


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Commit the reports of two runs one after the other, and audit the two revisions."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    monkeypatch.chdir(tmp_path)

    def commit(run: Any) -> None:
        report = tmp_path / "results/report"
        report.mkdir(parents=True, exist_ok=True)
        cards = dict(run.side().cards)
        del cards["report"]
        lines = "".join(f"{json.dumps(card)}\n" for card in cards.values())
        for name, content in {**run.report, "cards.jsonl": lines.encode()}.items():
            (report / name).write_bytes(content)
        for words in (("add", "-A"), ("commit", "-qm", run.name), ("tag", run.name)):
            subprocess.run((*git, *words), check=True)

    def run(first: Any, second: Any, *options: str, status: int = 0) -> str:
        subprocess.run(("git", "init", "-q"), check=True)
        commit(first)
        commit(second)
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["clipmend", "audit", "a", "b", *options])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == status
        return str(capsys.readouterr().out)

    return run


def test_renamed_cells_files_modules_and_settings_are_a_line_for_each_kind(
    old: Any, new: Any, audit: Any
) -> None:
    lines = audit(old, new).splitlines()
    assert lines[0].startswith(
        "a → b: 0 changed, 4 made again to the same bytes, 1 the same (cells)"
    )
    texts = {line.strip("│├└─ ") for line in lines}
    assert {
        "moved: 1 cell, same bytes",
        "baselines/…/abl → unlearn/…/abl",
        "moved: 1 file, same content",
        "belief.json → finding.json",
        "moved: 1 module, same functions",
        "clipmend.baselines.abl → clipmend.methods.repairs.abl",
        "moved: 1 setting, same content",
        "unlearn.settings.abl.moves → unlearn.settings.abl.trainable",
        "1  same bytes made again to the same bytes",
    } <= texts
    assert not any(line.startswith(("code", "parameter", "grid")) for line in texts)


def test_the_document_has_every_move_and_one_cause_for_all_cells(
    old: Any, new: Any, audit: Any
) -> None:
    document = json.loads(audit(old, new, "--json"))
    assert {(m["kind"], m["old"], m["new"], m["is_same"]) for m in document["moves"]} == {
        ("cell", OLD, NEW, True),
        ("file", "belief.json", "finding.json", True),
        ("module", "clipmend.baselines.abl", "clipmend.methods.repairs.abl", True),
        ("setting", "unlearn.settings.abl.moves", "unlearn.settings.abl.trainable", True),
    }
    (cause,) = document["causes"]
    assert (cause["kind"], len(cause["cells"]), cause["behind"]) == ("same bytes", 4, [])


def test_a_function_that_changed_in_a_moved_module_is_reported_beside_the_move(
    old: Any, new: Any, audit: Any, functions: Any
) -> None:
    changed = FUNCTIONS | {"ABL.task": "a3", "digest": "n1", "module level": "m"}
    new.report["code.json"] = functions(methods__repairs__abl=changed)
    texts = {line.strip("│├└─ ") for line in audit(old, new).splitlines()}
    path = "src/clipmend/methods/repairs/abl.py"
    assert {
        "moved: 1 module; 1 of them also changed",
        "because of code: 1",
        f"{path} (ABL.task, module level): o1 → n1  (1 cells)",
    } <= texts


def test_other_bytes_from_a_module_that_only_moved_are_explained_by_the_move(
    old: Any, new: Any, audit: Any
) -> None:
    """A file may hold a name that moved; without any move these bytes would be unexplained."""
    for run, module in ((old, "clipmend.baselines.abl"), (new, "clipmend.methods.repairs.abl")):
        run.parts[PRETRAIN] = {"code": {module: "o1" if run is old else "n1"}}
    new.bytes_of[PRETRAIN] = "another name"
    document = json.loads(audit(old, new, "--json"))
    assert [cause["cells"] for cause in document["causes"] if cause["kind"] == "moved"] == [
        [PRETRAIN]
    ]


def test_other_bytes_of_a_cell_without_any_move_are_still_unexplained(
    old: Any, new: Any, audit: Any
) -> None:
    new.bytes_of["poison/scenes/badnet/seed0"] = "edited by hand"
    audit(old, new, status=1)


def test_the_graph_is_mermaid_in_a_markdown_file(old: Any, new: Any, audit: Any) -> None:
    audit(old, new, "--graph", "audit/graph.md")
    text = Path("audit/graph.md").read_text()
    assert text.startswith("# a → b\n")
    assert "```mermaid\nflowchart LR\n" in text
    assert '["unlearn x 1<br>remade [1]"]' in text
    assert text.count(" --> ") == 3
