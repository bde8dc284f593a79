"""The sides of an audit: where they are read from, and how their cards are checked."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clipmend.errors import AuditError
from clipmend.tools.audit.lock import differing_stages, directory_md5
from clipmend.tools.audit.sides import side


@pytest.fixture
def report(a: Any, tmp_path: Path) -> Path:
    """A folder with the report of a run, and nothing else of it."""
    folder = tmp_path / "results/report"
    folder.mkdir(parents=True)
    made = dict(a.side().cards)
    own = made.pop("report")
    text = b"a table"
    own["outputs"] = {"table.md": {"sha256": hashlib.sha256(text).hexdigest(), "size": 7}}
    (folder / "table.md").write_bytes(text)
    (folder / "card.json").write_text(json.dumps(own))
    (folder / "cards.jsonl").write_text("".join(f"{json.dumps(c)}\n" for c in made.values()))
    return folder


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_a_report_a_results_folder_and_a_project_are_all_sides(report: Path, place: str) -> None:
    read = side(str(report / place))
    assert len(read.cards) == 6
    assert read.edited == {}


def test_a_copy_of_a_report_may_have_any_name(report: Path, tmp_path: Path) -> None:
    theirs = shutil.copytree(report, tmp_path / "theirs")
    assert side(str(theirs)).cards == side(str(report)).cards
    assert side(str(theirs)).edited == {}


def test_a_card_that_does_not_fit_its_key_is_reported(report: Path) -> None:
    path = report / "cards.jsonl"
    path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.2', 1))
    assert list(side(str(report)).edited.values()) == ["its card does not fit its key"]


def test_a_file_of_the_report_that_was_edited_or_removed_is_reported(report: Path) -> None:
    (report / "table.md").write_text("a better table")
    assert side(str(report)).edited == {"report": "table.md is not what its card says"}
    (report / "table.md").unlink()
    assert side(str(report)).edited == {"report": "table.md is missing"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"cell": "x"}', "cannot be read"),
        (
            json.dumps({"cell": "x", "key": "0" * 64, "inputs": {}, "outputs": {}}),
            "The card of x in .* lacks code, environment",
        ),
        (
            json.dumps({"cell": "../x", "key": "0" * 64, "inputs": {}, "outputs": {}}),
            "cannot be read",
        ),
        ("[1]", "cannot be read"),
    ],
)
def test_cards_that_cannot_be_used_are_an_error(report: Path, text: str, message: str) -> None:
    (report / "cards.jsonl").write_text(text)
    with pytest.raises(AuditError, match=message):
        side(str(report))


def test_a_stage_is_compared_with_dvc_s_name_of_its_folder() -> None:
    md5 = {"card.json": "c" * 32, "model.safetensors": "d" * 32}
    cards = {"pretrain/a/b": {"md5": md5}}
    name = directory_md5({f"a/b/{file}": digest for file, digest in md5.items()})
    lock = f"stages:\n  pretrain:\n    outs:\n    - path: results/pretrain\n      md5: {name}\n"
    assert differing_stages(cards, lock.encode(), "a") == {}
    assert differing_stages(cards, lock.replace(name, "other.dir").encode(), "a").keys() == {
        "pretrain"
    }
    assert differing_stages({}, lock.encode(), "a") == {}
    sharded = {"pretrain/a/b": {"md5": md5 | {"train/00000.parquet": "e" * 32}}}
    assert differing_stages(sharded, lock.encode(), "a") == {}  # they may be left out of DVC
    edited = {"pretrain/a/b": {"md5": md5 | {"card.json": "f" * 32}}}
    assert differing_stages(edited, lock.encode(), "a").keys() == {"pretrain"}
    assert differing_stages(cards, None, "a") == {}


@pytest.mark.parametrize("text", [b"{", b"[1]", b"stages: [1]", b"stages: {a: 1}", b"\xff\x00"])
def test_a_lock_that_cannot_be_read_is_an_error(text: bytes) -> None:
    with pytest.raises(AuditError, match=r"^dvc\.lock of v1 cannot be read: "):
        differing_stages({}, text, "v1")


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"clipmend.a": 1}', '{"clipmend.a": {"digest": "x"}}']
)
def test_digests_of_functions_that_cannot_be_read_are_an_error(report: Path, text: str) -> None:
    (report / "code.json").write_text(text)
    with pytest.raises(AuditError, match=r"^code\.json of .* cannot be read: "):
        side(str(report)).functions("clipmend.a", "x")
