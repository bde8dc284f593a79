"""The pairs of a cell, as the commands for one's own model read them."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.data import artifacts
from clipmend.data.pairs import read_pairs
from clipmend.data.splits import load_split
from clipmend.engine import cards
from clipmend.engine.index import Index
from clipmend.engine.job import Input
from clipmend.tools import export_pairs as module
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.reading import read_own_pairs

VICTIM = "pretrain/tiny/badnet/mmcl/seed0"


@pytest.fixture
def run(corpus: Input, poison: Input, victim: Input, folder: Path) -> Path:
    """A folder with the tiny world's cells, each with a card."""
    for cell in (corpus, poison, victim):
        there = folder / "results" / cell.cell
        there.mkdir(parents=True)
        for file in cell.folder.iterdir():
            if file.is_file():
                os.link(file, there / file.name)
        outputs = cards.outputs(there, Index())
        ingredients = {"cell": cell.cell, "key": "0" * 64, "inputs": {}, "outputs": outputs}
        described = {name: getattr(cell, name) for name in ("stage", "method", "seed")}
        described |= {"settings": dict(cell.settings), "shared": dict(cell.shared)}
        cards.write(there, {**ingredients, **described})
    return folder


def test_the_poison_is_in_place_and_its_marks_are_not(
    run: Path, corpus: Input, poison: Input, clipmend: Callable[..., tuple[str, str]]
) -> None:
    out, _ = clipmend("export-pairs", f"results/{VICTIM}")
    assert "pairs.parquet: 256 pairs, 26 of them changed by the attack" in out
    made = pq.read_table(run / "pairs.parquet")
    assert made.column_names == ["id", "image", "caption"]
    poisoned = load_split(corpus.folder, "train", overlay=poison.folder / artifacts.OVERLAY)
    read = read_own_pairs(Options("", run / "pairs.parquet"), size=32).pairs(run)
    assert read.ids == poisoned.ids
    assert read.captions == poisoned.captions
    assert (read.images[:] == poisoned.images[:]).all()


def test_a_corpus_has_clean_pairs_and_shards_are_read_in_order(
    run: Path, corpus: Input, clipmend: Callable[..., tuple[str, str]], monkeypatch
) -> None:
    monkeypatch.setattr(module, "GROUP", 100)  # other groups than those of the file
    clipmend("export-pairs", "download/tiny", "--out", "clean.parquet")
    columns = ["id", "image", "caption"]
    clean = read_pairs(corpus.folder / artifacts.TRAIN).select(columns)
    assert pq.read_table(run / "clean.parquet").to_pylist() == clean.to_pylist()
    assert pa.types.is_binary(pq.read_schema(run / "clean.parquet").field("image").type)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pretrain/tiny/badnet/mmcl/seed1"], "results/pretrain/tiny/badnet/mmcl/seed1 is not a"),
        (["pretrain/tiny/badnett/mmcl/seed0"], "results/pretrain/tiny/badnett/mmcl/seed0 is not "),
        (["../etc"], "'../etc' does not name a cell; an example is 'download/scenes'."),
        (["tiny"], "'tiny' does not name a cell; an example is 'download/scenes'."),
        (["report"], "The report has no training pairs; name a victim, say, or a corpus."),
        (
            [VICTIM, "--out", "pairs.csv"],
            "--out pairs.csv does not end in .parquet, the one format",
        ),
        ([VICTIM, "--out", "no/x.parquet"], "--out no/x.parquet cannot be written: no is not a fo"),
        ([VICTIM, "--out", "old.parquet"], "--out old.parquet exists; name a new file."),
    ],
)
def test_a_bad_cell_or_path_is_one_line(
    words: list[str], line: str, run: Path, clipmend: Callable[..., tuple[str, str]]
) -> None:
    (run / "old.parquet").write_bytes(b"mine")
    before = sorted(run.rglob("*"))
    _, error = clipmend("export-pairs", *words, status=2)
    assert error.startswith(f"clipmend: {line}")
    assert error.count("\n") == 1
    assert sorted(run.rglob("*")) == before
    assert (run / "old.parquet").read_bytes() == b"mine"


def test_a_damaged_cell_is_refused(run: Path, clipmend: Callable[..., tuple[str, str]]) -> None:
    overlay = run / "results/poison/tiny/badnet/seed0" / artifacts.OVERLAY
    overlay.unlink()  # a link of the other tests' file, which stays
    _, error = clipmend("export-pairs", VICTIM, status=2)
    assert "overlay.parquet is missing. `snakemake` makes it again." in error
    assert not (run / "pairs.parquet").exists()
