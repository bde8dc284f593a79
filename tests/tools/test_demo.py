"""The demo: a victim, what the two commands make of it, and the numbers before and after."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from clipmend.engine import locks

Command = Callable[..., tuple[str, str]]
TINY = """\
# A demo of a second.
extends: default
arithmetic: fastest  # portable needs a process of its own
download:
  corpora: [scenes@demo]
  settings:
    scenes@demo: {train: 256, trusted: 16, val: 32, test: 64}
poison:
  methods: [badnet]
  settings: {badnet: {poison_rate: 0.1}}
pretrain:
  methods: [mmcl]
  settings: {mmcl: {epochs: 2}}
detect: {methods: [shared_pattern]}
unlearn:
  methods: [see_through]
  settings: {ubt@random: null, ubt@oracle: null}
baselines: {methods: []}
"""
VICTIM = "scenes@demo/badnet/mmcl/seed0"


@pytest.fixture
def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a preset `demo` of its own, in a process that holds no lock."""
    (folder / "params").mkdir()
    (folder / "params" / "demo.yaml").write_text(TINY)
    held: dict[Path, IO[str]] = {}
    folders: list[int] = []
    monkeypatch.setattr(locks, "_held", held)
    monkeypatch.setattr(locks, "_folder", folders)
    yield folder
    for file in held.values():
        file.close()
    for number in folders:
        os.close(number)


def test_a_demo_plants_finds_repairs_and_measures_and_goes_on_after_a_kill(
    tiny: Path, clipmend: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = clipmend("demo", "here")
    made = tiny / "here"
    assert {path.name for path in made.iterdir() if path.name[0] != "."} == {
        *("params.yaml", "results", "pairs.parquet", "suspects", "mended", "metrics.json")
    }
    assert (made / "suspects" / "suspects.png").is_file()
    assert (made / "mended" / "model" / "README.md").is_file()
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["victim"] == f"pretrain/{VICTIM}"
    for when, method in (("before", "none"), ("after", "see_through")):
        numbers = metrics[when]
        assert numbers["method"] == method
        assert numbers["clean_accuracy"]["n"] == 64
        shown = f"{100 * numbers['clean_accuracy']['value']:.1f} %"
        assert shown in next(line for line in out.splitlines() if "(CA)" in line)

    # As if it had been killed before the last steps; the victim is not trained again.
    (made / "metrics.json").unlink()
    _, error = clipmend("demo", "here")
    assert f"pretrain/{VICTIM}: is up to date" in error
    again = json.loads((made / "metrics.json").read_text())
    assert again == metrics

    monkeypatch.chdir(made)
    clipmend("demo", "again", "--victim", VICTIM)
    assert json.loads((made / "again" / "metrics.json").read_text()) == metrics
    _, error = clipmend("demo", "more", "--victim", VICTIM.replace("mmcl", "mmlc"), status=2)
    assert f"Did you mean 'pretrain/{VICTIM}'?" in error
    assert not (made / "more").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["."], ". is not empty, and no demo made it; name a new folder."),
        (
            ["params/demo.yaml"],
            "params/demo.yaml is a file or a link; name a new folder for the demo.",
        ),
        (
            ["params/demo.yaml/x"],
            "params/demo.yaml/x cannot be made: Not a directory; name another",
        ),
        (["new", "--victim", "x/badnet/mmcl/seed0"], "results/pretrain/x/badnet/mmcl/seed0 is not"),
        (["new", "--victim", "download/x"], "'pretrain/download/x' does not name a cell; an exam"),
        (["new", "--victim", "x/unpoisoned/mmcl/seed0"], "'x/unpoisoned/mmcl/seed0' was not pois"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str], line: str, tiny: Path, clipmend: Command
) -> None:
    before = sorted(tiny.rglob("*"))
    _, error = clipmend("demo", *words, status=2)
    assert error.startswith(f"clipmend: {line}")
    assert error.count("\n") == 1
    assert sorted(tiny.rglob("*")) == before
