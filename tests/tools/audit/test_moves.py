"""`clipmend audit` between two layouts of the code reports a move as a move."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clipmend.tools.audit.moves import align

VICTIM = "scenes/badnet/mmcl/seed0"
PRETRAIN, OLD, NEW = f"pretrain/{VICTIM}", f"baselines/{VICTIM}/abl", f"unlearn/{VICTIM}/abl"
MODULE = "clipmend.methods.repairs.abl"
FUNCTIONS = {"fit": "f1", "ABL": "a1", "ABL.task": "a2", "constants": "c1"}


@pytest.fixture
def old(a: Any) -> Any:
    """The run of the old layout: ABL is a baseline, in `clipmend.baselines.abl`."""
    inputs = a.cells.pop(f"baselines/{VICTIM}/ft")
    del a.cells[f"evaluate/{VICTIM}/ft/badnet"]
    a.cells |= {OLD: inputs, f"evaluate/{VICTIM}/abl/badnet": ["download/scenes", OLD]}
    a.parts[OLD] = {"code": {"clipmend.baselines.abl": "o1"}, "settings": {"moves": "all"}}
    a.functions(
        "baselines.abl", FUNCTIONS | {"digest": "o1", "module level": "imports of old names"}
    )
    a.file = "belief.json"
    return a


@pytest.fixture
def new(b: Any, old: Any) -> Any:
    """The same run in the new layout: cells, modules, settings and files have other names."""
    b.cells = {
        cell.replace(OLD, NEW): [name.replace(OLD, NEW) for name in inputs]
        for cell, inputs in old.cells.items()
    }
    b.parts[NEW] = {
        "code": {"clipmend.methods.repairs.abl": "n1"},
        "settings": {"trainable": "all"},
    }
    b.functions(
        "methods.repairs.abl", FUNCTIONS | {"digest": "n1", "module level": "imports of new names"}
    )
    b.file = "finding.json"
    return b


@pytest.fixture
def audit(folder: Path, clipmend: Any) -> Any:
    """Commit the reports of two runs one after the other, and audit the two revisions."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    report = folder / "results/report"
    report.mkdir(parents=True)

    def run(*runs: Any, options: tuple[str, ...] = (), status: int = 0) -> str:
        subprocess.run(("git", "init", "-q"), check=True)
        for made in runs:
            cards = [card for cell, card in made.side().cards.items() if cell != "report"]
            lines = "".join(f"{json.dumps(card)}\n" for card in cards)
            for name, content in {**made.report, "cards.jsonl": lines.encode()}.items():
                (report / name).write_bytes(content)
            for words in (("add", "-A"), ("commit", "-qm", made.name), ("tag", made.name)):
                subprocess.run((*git, *words), check=True)
        return str(clipmend("audit", "a", "b", *options, status=status)[0])

    return run


def texts(printed: str) -> set[str]:
    return {line.strip("│├└─ ") for line in printed.splitlines()}


def use_moved_module(old: Any, new: Any, more: str) -> None:
    """Let the victims be made with the moved module, and with other bytes."""
    old.parts[PRETRAIN] = {"code": {"clipmend.baselines.abl": "o1"}}
    new.parts[PRETRAIN] = {"code": {MODULE: "n1"}}
    new.bytes_of[PRETRAIN] = more


def test_renamed_cells_files_modules_and_settings_are_a_line_for_each_kind(
    old: Any, new: Any, audit: Any
) -> None:
    printed = audit(old, new)
    first = "a → b: 0 changed, 4 made again to the same bytes, 1 the same (cells)"
    assert printed.startswith(first)
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
    } <= texts(printed)
    assert not any(line.startswith(("code", "parameter", "grid")) for line in texts(printed))


def test_the_document_has_every_move_and_one_cause_for_all_cells(
    old: Any, new: Any, audit: Any
) -> None:
    document = json.loads(audit(old, new, options=("--json",)))
    assert {(m["kind"], m["old"], m["new"], m["is_same"]) for m in document["moves"]} == {
        ("cell", OLD, NEW, True),
        ("file", "belief.json", "finding.json", True),
        ("module", "clipmend.baselines.abl", "clipmend.methods.repairs.abl", True),
        ("setting", "unlearn.settings.abl.moves", "unlearn.settings.abl.trainable", True),
    }
    (cause,) = document["causes"]
    assert (cause["kind"], len(cause["cells"]), cause["behind"]) == ("same bytes", 4, [])


@pytest.mark.parametrize(
    ("changed", "parts"),
    [({"ABL.task": "a3"}, "ABL.task, module level"), ({"constants": "c2"}, "constants")],
)
def test_a_function_or_constant_that_changed_in_a_moved_module_is_reported_beside_the_move(
    old: Any, new: Any, audit: Any, changed: dict[str, str], parts: str
) -> None:
    code = FUNCTIONS | {"digest": "n1", "module level": "m"} | changed
    new.functions("methods.repairs.abl", code)
    assert {
        "moved: 1 module; 1 of them also changed",
        "because of code: 1",
        f"src/clipmend/methods/repairs/abl.py ({parts}): o1 → n1  (1 cells)",
    } <= texts(audit(old, new))


def test_other_bytes_from_a_module_that_only_moved_are_explained_by_the_move(
    old: Any, new: Any, audit: Any
) -> None:
    """A file may hold a name that moved; without any move these bytes would be unexplained."""
    use_moved_module(old, new, "another name")
    document = json.loads(audit(old, new, options=("--json",)))
    assert [cause["cells"] for cause in document["causes"] if cause["kind"] == "moved"] == [
        [PRETRAIN]
    ]


def test_other_bytes_of_a_renamed_cell_are_unexplained_in_a_file_without_names(
    old: Any, new: Any, audit: Any
) -> None:
    old.file = new.file = "model.safetensors"
    use_moved_module(old, new, "edited by hand")
    printed = audit(old, new, status=1)
    assert f"unexplained {PRETRAIN}: other bytes from the same parts" in printed


def test_a_moved_module_without_a_digest_of_its_constants_excuses_no_other_bytes(
    old: Any, new: Any, audit: Any
) -> None:
    functions_only = {n: d for n, d in FUNCTIONS.items() if n != "constants"}
    old.functions(
        "baselines.abl", functions_only | {"digest": "o1", "module level": "imports of old names"}
    )
    use_moved_module(old, new, "another constant")
    printed = audit(old, new, status=1)
    assert f"clipmend.baselines.abl → {MODULE}  (module level not compared)" in printed
    assert f"other bytes from the same parts (module level not compared: {MODULE})" in printed


@pytest.mark.parametrize(
    ("gone", "come", "moves"),
    [
        (["none/seed0"], ["unpoisoned/seed0"], 1),
        (["none/seed0"], ["unpoisoned/seed0", "clean/seed0"], 0),
        (["unpoisoned/seed1", "unpoisoned/seed2"], ["unpoisoned/seed3"], 0),
    ],
)
def test_a_cell_moved_if_one_cell_alone_has_its_seed_and_its_bytes(
    a: Any, b: Any, gone: list[str], come: list[str], moves: int
) -> None:
    """The poison of an unpoisoned corpus has the same bytes at every seed."""
    sides = []
    for run, names in ((a, gone), (b, come)):
        cells = [f"poison/scenes/{name}" for name in names]
        run.cells |= {cell: ["download/scenes"] for cell in cells}
        run.parts |= {cell: {"seed": int(cell[-1])} for cell in cells}
        sides.append(run.side())
        for cell in cells:
            dict(sides[-1].cards[cell])["outputs"].update(made={"sha256": "empty", "size": 1})
    found = [(m.old, m.new) for m in align(*sides)[1] if m.kind == "cell"]
    assert found == [(f"poison/scenes/{gone[0]}", f"poison/scenes/{come[0]}")] * moves


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
    audit(old, new, options=("--graph", "audit/graph.md"))
    text = Path("audit/graph.md").read_text()
    assert text.startswith("# a → b\n")
    assert "```mermaid\nflowchart LR\n" in text
    assert '["unlearn x 1<br>remade [1]"]' in text
    assert text.count(" --> ") == 3
