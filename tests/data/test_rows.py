"""Some rows of a split, read without the others."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from clipmend.data.pairs import PAIRS, read_manifest, read_pairs, read_rows, table_of, write_pairs
from clipmend.data.splits import load_rows, load_split
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError

COUNT = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = range(COUNT)
    columns = {
        "id": [f"row-{row}" for row in rows],
        "image": [bytes([row % 256]) * 50 for row in rows],
        "caption": [f"caption {row}" for row in rows],
        "label": [None if row % 3 else "x" for row in rows],
    }
    write_pairs(table_of(columns), tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


@pytest.mark.parametrize("rows", [[0], [COUNT - 1], [3, 127, 128, 129, 700], list(range(COUNT))])
def test_rows_are_those_of_the_whole(path: Path, rows: list[int]) -> None:
    assert read_rows(path, rows).equals(read_pairs(path).take(rows))


def test_no_row_is_an_empty_table(path: Path) -> None:
    assert read_rows(path, []).equals(PAIRS.empty_table())


def test_groups_without_a_wanted_row_are_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, *args: object, **named: object) -> object:
        read.append(group)
        return real(self, group, *args, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    read_rows(path, [5, 6, 900])
    assert read == [0, 900 // 128]


@pytest.mark.parametrize("rows", [[COUNT], [-1, 3]])
def test_a_row_that_is_not_there_is_refused(path: Path, rows: list[int]) -> None:
    with pytest.raises(ArtifactError, match="has 1000 rows"):
        read_rows(path, rows)


def test_a_manifest_is_the_pairs_without_their_images(path: Path) -> None:
    manifest = read_manifest(path)
    assert manifest.column_names == [name for name in PAIRS.names if name != "image"]
    assert manifest.equals(read_pairs(path).drop_columns(["image"]))


def test_loaded_rows_are_the_split_s_without_labels(corpus: Input) -> None:
    rows = torch.tensor([0, 7, 200])
    some, whole = load_rows(corpus.folder, "train", rows), load_split(corpus.folder, "train")
    wanted = whole.take(rows)
    assert some.ids == wanted.ids
    assert some.captions == wanted.captions
    assert torch.equal(some.images, wanted.images)
    assert (some.label == -1).all()
