"""``clipmend verify`` answers: is every file what the job that made it wrote?"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clipmend import cli
from clipmend.engine import cards, plan
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import Index
from tests.engine.made import EVALUATED, FT, VICTIM

pytestmark = pytest.mark.usefixtures("results")

OTHER = "baselines/scenes/unpoisoned/mmcl/seed0/ft"


@pytest.fixture
def verify(monkeypatch, capsys) -> Callable[[], tuple[int, str]]:
    """Return a function that runs the command, and returns its exit code and what it printed."""

    def verify() -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["clipmend", "verify"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return verify


def replace(path: Path, text: str) -> None:
    path.unlink()  # the store has another link of the same file
    path.write_text(text)


def edit_with_card(cell: str) -> None:
    """Change a file of a cell and its card alike."""
    folder = RESULTS / cell
    replace(folder / "output.txt", "other")
    card = json.loads((folder / cards.CARD).read_bytes())
    (folder / cards.CARD).unlink()
    cards.write(folder, card | {"outputs": cards.outputs(folder, Index())})


def swap(a: str, b: str) -> None:
    (RESULTS / a).rename("aside")
    (RESULTS / b).rename(RESULTS / a)
    Path("aside").rename(RESULTS / b)


def delete_card(cell: str) -> None:
    replace(RESULTS / cell / "output.txt", "other")
    (RESULTS / cell / cards.CARD).unlink()


DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "an edited file": (
        lambda: replace(RESULTS / FT / "output.txt", "other"),
        f"{FT}: output.txt is not what its card says",
    ),
    "two swapped cells": (lambda: swap(FT, OTHER), f"{FT}: card.json is that of {OTHER}"),
    "an edited file without its card": (
        lambda: delete_card(EVALUATED),
        f"{EVALUATED}/output.txt: no card names this file",
    ),
    "a file of no card": (
        lambda: (RESULTS / FT / "more.txt").write_text("more"),
        f"{FT}/more.txt: no card names this file",
    ),
    "a hidden file": (
        lambda: (RESULTS / FT / ".more.txt").write_text("more"),
        f"{FT}/.more.txt: no card names this file",
    ),
    "a copy of an editor": (
        lambda: (RESULTS / FT / "output.txt~").write_text("more"),
        f"{FT}/output.txt~: no card names this file",
    ),
    "a file of git in a cell": (
        lambda: (RESULTS / FT / ".gitignore").write_text("more"),
        f"{FT}/.gitignore: no card names this file",
    ),
    "a pipe in the place of DVC's file": (
        lambda: os.mkfifo(RESULTS / ".gitignore"),
        ".gitignore: no card names this file",
    ),
    "a link in the place of DVC's file": (
        lambda: (RESULTS / ".gitignore").symlink_to(Path("params.yaml").absolute()),
        ".gitignore: no card names this file",
    ),
    "a pipe": (
        lambda: os.mkfifo(RESULTS / FT / "pipe"),
        f"{FT}/pipe: no card names this file",
    ),
    "a pipe in the place of a file": (
        lambda: [(RESULTS / FT / "output.txt").unlink(), os.mkfifo(RESULTS / FT / "output.txt")],
        f"{FT}: output.txt is missing",
    ),
    "a cell behind a link": (
        lambda: [
            (RESULTS / FT).rename("aside"),
            (RESULTS / FT).symlink_to(Path("aside").absolute()),
        ],
        f"{FT}: no card names this file",
    ),
    "a file beside the stages": (
        lambda: (RESULTS / "table.md").write_text("more"),
        "table.md: no card names this file",
    ),
    "a model edited with its card": (
        lambda: edit_with_card(VICTIM),
        f"{FT}: input {VICTIM} has other bytes than those it read",
    ),
    "a report edited with its card": (
        lambda: edit_with_card("report"),
        "report: card.json differs from the one that its job stored",
    ),
    "a cell that others read and that is gone": (
        lambda: shutil.rmtree(RESULTS / FT),
        f"{EVALUATED}: input {FT} is missing",
    ),
    "a cell in another place": (
        lambda: shutil.copytree(RESULTS / FT, RESULTS / f"{FT}@copy"),
        f"{FT}@copy: card.json is that of {FT}",
    ),
    "a card that is damaged": (
        lambda: replace(RESULTS / FT / cards.CARD, "{"),
        f"{FT}: card.json cannot be read",
    ),
    "a card with a space more": (
        lambda: replace(RESULTS / FT / cards.CARD, f"{(RESULTS / FT / cards.CARD).read_text()} "),
        f"{FT}: card.json is not as a job writes it",
    ),
    "a card with a key twice": (
        lambda: replace(
            RESULTS / FT / cards.CARD,
            (RESULTS / FT / cards.CARD).read_text().replace("{", '{"key": "0",', 1),
        ),
        f"{FT}: card.json is not as a job writes it",
    ),
    "a card with another setting": (
        lambda: replace(
            RESULTS / FT / cards.CARD,
            (RESULTS / FT / cards.CARD).read_text().replace("0.1", "0.2"),
        ),
        f"{FT}: card.json does not fit its key",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_damage_is_named_and_the_exit_code_is_1(verify, name) -> None:
    assert verify() == (0, "")
    harm, line = DAMAGE[name]
    harm()
    code, printed = verify()
    assert code == 1
    assert line in printed.splitlines()


def test_a_run_repairs_every_damage_that_verify_names(verify) -> None:
    for name in ("two swapped cells", "an edited file without its card", "a file of no card"):
        DAMAGE[name][0]()
    plan.arrange()
    assert verify() == (0, "")


def test_files_of_dvc_and_of_a_file_manager_are_no_damage(verify) -> None:
    for name in (".gitignore", ".DS_Store", f"{FT}/.DS_Store"):
        (RESULTS / name).write_text("more")
    assert verify() == (0, "")


def test_nothing_to_verify_is_said(verify) -> None:
    shutil.rmtree(RESULTS)
    code, line = verify()
    assert code == 2
    assert line == "clipmend: results/ has no cell to verify; `snakemake` makes them.\n"


def test_stages_that_were_not_pulled_are_no_damage(verify) -> None:
    for stage in RESULTS.iterdir():
        if stage.name != "report":
            shutil.rmtree(stage)
    assert verify() == (0, "")
