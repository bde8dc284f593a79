"""`clipmend audit` between two layouts of the code reports a move as a move."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clipmend import cli
from clipmend.tools.audit.moves import align

VICTIM = "scenes/badnet/mmcl/seed0"
PRETRAIN, OLD, NEW = f"pretrain/{VICTIM}", f"baselines/{VICTIM}/abl", f"unlearn/{VICTIM}/abl"
FUNCTIONS = {"fit": "f1", "ABL": "a1", "ABL.task": "a2", "constants": "c1"}


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


def test_other_bytes_of_a_renamed_cell_are_unexplained_in_a_file_without_names(
    old: Any, new: Any, audit: Any
) -> None:
    old.file = new.file = "model.safetensors"
    for run, module in ((old, "clipmend.baselines.abl"), (new, "clipmend.methods.repairs.abl")):
        run.parts[PRETRAIN] = {"code": {module: "o1" if run is old else "n1"}}
    new.bytes_of[PRETRAIN] = "edited by hand"
    texts = audit(old, new, status=1)
    assert f"unexplained {PRETRAIN}: other bytes from the same parts" in texts


def test_a_constant_that_changed_in_a_moved_module_is_reported_beside_the_move(
    old: Any, new: Any, audit: Any, functions: Any
) -> None:
    changed = FUNCTIONS | {"constants": "c2", "digest": "n1", "module level": "m"}
    new.report["code.json"] = functions(methods__repairs__abl=changed)
    texts = {line.strip("│├└─ ") for line in audit(old, new).splitlines()}
    path = "src/clipmend/methods/repairs/abl.py"
    assert {
        "moved: 1 module; 1 of them also changed",
        f"{path} (constants): o1 → n1  (1 cells)",
    } <= texts


def test_a_moved_module_without_a_digest_of_its_constants_excuses_no_other_bytes(
    old: Any, new: Any, audit: Any, functions: Any
) -> None:
    functions_only = {n: d for n, d in FUNCTIONS.items() if n != "constants"}
    old.report["code.json"] = functions(
        baselines__abl=functions_only | {"digest": "o1", "module level": "imports of old names"}
    )
    for run, module in ((old, "clipmend.baselines.abl"), (new, "clipmend.methods.repairs.abl")):
        run.parts[PRETRAIN] = {"code": {module: "o1" if run is old else "n1"}}
    new.bytes_of[PRETRAIN] = "another constant"
    texts = audit(old, new, status=1)
    module = "clipmend.methods.repairs.abl"
    assert f"clipmend.baselines.abl → {module}  (module level not compared)" in texts
    assert f"other bytes from the same parts (module level not compared: {module})" in texts


def test_cells_that_only_share_their_bytes_did_not_move(a: Any, b: Any) -> None:
    """The poison of an unpoisoned corpus has the same bytes at every seed."""
    for run, seeds in ((a, (1, 2)), (b, (3,))):
        for seed in seeds:
            cell = f"poison/scenes/unpoisoned/seed{seed}"
            run.cells[cell] = ["download/scenes"]
            run.parts[cell] = {"seed": seed}
    sides = [run.side() for run in (a, b)]
    for side in sides:
        for cell, card in side.cards.items():
            if "/unpoisoned/" in cell:
                dict(card)["outputs"].update(made={"sha256": "empty", "size": 1})
    assert align(*sides)[1] == ()


@pytest.mark.parametrize(
    ("old_attack", "new_attacks", "moves"),
    [
        ("none", ["unpoisoned"], [("none", "unpoisoned")]),
        ("none", ["unpoisoned", "clean"], []),
    ],
)
def test_a_cell_moved_if_one_cell_alone_has_its_seed_and_its_bytes(
    a: Any, b: Any, old_attack: str, new_attacks: list[str], moves: list[tuple[str, str]]
) -> None:
    for run, attacks in ((a, [old_attack]), (b, new_attacks)):
        run.cells |= {f"poison/scenes/{name}/seed0": ["download/scenes"] for name in attacks}
    sides = [run.side() for run in (a, b)]
    for side in sides:
        for attack in (old_attack, *new_attacks):
            card = dict(side.cards.get(f"poison/scenes/{attack}/seed0", {"outputs": {}}))
            card["outputs"].update(made={"sha256": "empty", "size": 1})
    cells = [move for move in align(*sides)[1] if move.kind == "cell"]
    path = "poison/scenes/{}/seed0".format
    assert [(m.old, m.new) for m in cells] == [(path(was), path(now)) for was, now in moves]


@pytest.mark.parametrize(
    ("was", "now", "is_renamed"),
    [
        ({"moves": True}, {"trainable": True}, True),  # a rename of clipmend's own
        ({"rate": 0.37}, {"weight": 0.37}, True),
        ({"batch_sise": 1}, {"batch_size": 1}, True),
        ({"epochs": 1}, {"augment": 1}, False),
        ({"augment": True}, {"augments": 1}, False),
        ({"limit": None}, {"texts": None}, False),
    ],
)
def test_a_setting_is_renamed_if_its_value_or_its_name_shows_it(
    a: Any, b: Any, was: dict[str, Any], now: dict[str, Any], is_renamed: bool
) -> None:
    a.parts[PRETRAIN], b.parts[PRETRAIN] = {"settings": was}, {"settings": now}
    _, moves = align(a.side(), b.side())
    assert [move.kind for move in moves] == ["setting"] * is_renamed


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
