"""A split in shards is read as a split in a single file."""

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pytest import MonkeyPatch

from clipmend.data import row_groups, streaming
from clipmend.data.pairs import (
    MANIFEST,
    PAIRS,
    count_pairs,
    read_manifest,
    read_pairs,
    read_rows,
    write_pairs,
)
from clipmend.data.row_groups import Groups, footers_of
from clipmend.data.splits import load_rows, load_split
from clipmend.data.writer import write_split
from clipmend.errors import ArtifactError

COUNT = 2500
Folders = tuple[Path, Path]


@pytest.fixture(scope="module")
def table(repeated: Any) -> pa.Table:
    return repeated(COUNT)


@pytest.fixture(scope="module")
def folders(
    table: pa.Table, write_corpus: Any, tmp_path_factory: pytest.TempPathFactory
) -> Folders:
    """Return two folders: the pairs in a single file, and in three shards."""
    in_shards = partial(write_split, per_shard=1000)
    return (
        write_corpus(tmp_path_factory.mktemp("single"), table, writer=write_split),
        write_corpus(tmp_path_factory.mktemp("shards"), table, writer=in_shards),
    )


def test_a_manifest_of_shards_has_no_image(folders: Folders, table: pa.Table) -> None:
    files = sorted((folders[1] / "train").iterdir())
    assert [file.name for file in files] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [pq.read_metadata(file).num_rows for file in files] == [1024, 1024, 452]
    assert pq.read_table(files[1]).equals(table[1024:2048])
    assert pq.read_table(folders[1] / "train.parquet").equals(table.select(MANIFEST.names))


def test_every_reader_reads_the_same_from_shards(folders: Folders) -> None:
    single, shards = (folder / "train.parquet" for folder in folders)
    pairs, manifest = read_pairs(single), read_manifest(single)
    assert read_pairs(shards).equals(pairs)
    assert count_pairs(shards) == COUNT
    assert read_manifest(shards).equals(manifest)
    assert manifest.equals(pairs.drop_columns(["image"]))
    firsts = [Groups(path).firsts.tolist() for path in (single, shards)]
    assert firsts == [list(range(0, COUNT, 128))] * 2


ROWS = [[], [0], [COUNT - 1], [0, 127, 128, 129, 700], [1023, 1024, 2047], list(range(COUNT))]


@pytest.mark.parametrize("has_shards", [False, True])
@pytest.mark.parametrize("rows", ROWS, ids=len)
def test_selected_rows_are_those_of_the_split(
    folders: Folders, table: pa.Table, rows: list[int], has_shards: bool
) -> None:
    selected = read_rows(folders[has_shards] / "train.parquet", rows)
    assert selected.equals(table.take(pa.array(rows, pa.int64())).cast(PAIRS))


@pytest.mark.parametrize("has_shards", [False, True])
def test_loaded_rows_have_no_labels(folders: Folders, has_shards: bool) -> None:
    rows = torch.tensor([0, 1023, 1024, 2499])
    loaded = load_rows(folders[has_shards], "train", rows)
    expected = load_split(folders[0], "train").take(rows)
    assert (loaded.ids, loaded.captions) == (expected.ids, expected.captions)
    assert torch.equal(loaded.images, expected.images)
    assert (loaded.label == -1).all()


@pytest.mark.parametrize("rows", [[COUNT], [-1, 3]])
def test_a_row_outside_the_split_is_refused(folders: Folders, rows: list[int]) -> None:
    with pytest.raises(ArtifactError, match=f"has {COUNT} rows"):
        read_rows(folders[0] / "train.parquet", rows)


def test_only_groups_with_a_selected_row_are_read(
    folders: Folders, monkeypatch: MonkeyPatch
) -> None:
    groups: list[int] = []
    real = pq.ParquetFile.read_row_group

    def count(self: pq.ParquetFile, group: int, *args: object, **options: object) -> object:
        groups.append(group)
        return real(self, group, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    read_rows(folders[0] / "train.parquet", [5, 6, 900])
    assert groups == [0, 900 // 128]


def test_images_left_in_shards_are_those_of_the_single_file(
    folders: Folders, monkeypatch: MonkeyPatch
) -> None:
    decoded = load_split(folders[0], "train")
    monkeypatch.setattr(streaming, "_DECODED", 0)
    encoded = load_split(folders[1], "train")
    assert encoded.ids == decoded.ids
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).split(300)
    for rows, images in zip(order, encoded.images.stream(order), strict=True):
        assert torch.equal(images, decoded.images[rows])


def test_few_rows_are_a_single_file(table: pa.Table, tmp_path: Path) -> None:
    write_pairs(table[:700], tmp_path / "single.parquet")
    write_split(table[:700], tmp_path / "few.parquet", per_shard=1000)
    assert (tmp_path / "few.parquet").read_bytes() == (tmp_path / "single.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.parquet", "single.parquet"]


def test_a_missing_or_broken_shard_is_refused(table: pa.Table, tmp_path: Path) -> None:
    write_split(table, tmp_path / "train.parquet", per_shard=1000)
    (tmp_path / "train" / "00001.parquet").unlink()
    path = tmp_path / "train.parquet"
    with pytest.raises(ArtifactError, match=r"lists 2500 pairs, but the shards .* hold 1476\."):
        footers_of(path)
    (path.with_suffix("") / "00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match=r"a shard of it cannot be read"):
        Groups(path)
    for shard in path.with_suffix("").iterdir():
        shard.unlink()
    for read in (Groups, read_pairs, lambda path: read_rows(path, [3])):
        with pytest.raises(ArtifactError, match=r"the shards in .* hold 0\."):
            read(path)


def test_an_empty_folder_beside_a_single_file_is_ignored(folders: Folders, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes((folders[0] / "train.parquet").read_bytes())
    path.with_suffix("").mkdir()
    assert read_pairs(path).num_rows == COUNT


def test_the_number_of_open_files_is_limited(folders: Folders, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_OPEN", 1)
    groups = Groups(folders[1] / "train.parquet")
    for group in (0, 9, 19, 0):
        ids = groups.read(group, ["id"])["id"].to_pylist()
        assert ids[0] == f"row-{128 * group}"
        assert groups._opened.cache_info().currsize == 1
