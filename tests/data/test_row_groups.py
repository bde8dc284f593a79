"""A split cut into shards is read as one that is a single file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clipmend.data import row_groups, streaming
from clipmend.data.pairs import (
    MANIFEST,
    count_pairs,
    read_manifest,
    read_pairs,
    read_rows,
    write_pairs,
)
from clipmend.data.row_groups import Groups, files_of
from clipmend.data.splits import load_rows, load_split
from clipmend.data.writer import write_split
from clipmend.engine.job import Input
from clipmend.errors import ArtifactError

COUNT = 2500
CLASSES = '{"classes": ["apple", "banana"], "prompts": ["a {}"], "image_size": 32}'


@pytest.fixture(scope="module")
def table(corpus: Input) -> pa.Table:
    drawn = read_pairs(corpus.folder / "train.parquet")
    repeated = drawn.take([row % len(drawn) for row in range(COUNT)])
    ids = pa.array([f"row-{row}" for row in range(COUNT)])
    return repeated.set_column(0, repeated.schema.field("id"), ids).cast(drawn.schema)


@pytest.fixture(scope="module")
def folders(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same pairs in one file, and in three shards."""
    one, many = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("many")
    write_split(table, one / "train.parquet")
    write_split(table, many / "train.parquet", per_shard=1000)
    for folder in (one, many):
        (folder / "classes.json").write_text(CLASSES)
    return one, many


def test_shards_hold_whole_pairs_and_the_manifest_no_image(
    folders: tuple[Path, Path], table: pa.Table
) -> None:
    files = sorted((folders[1] / "train").iterdir())
    assert [file.name for file in files] == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [pq.read_metadata(file).num_rows for file in files] == [1024, 1024, 452]
    assert pq.read_table(files[1]).equals(table[1024:2048])
    assert pq.read_table(folders[1] / "train.parquet").equals(table.select(MANIFEST.names))


def test_what_reads_a_split_reads_the_same_of_its_shards(folders: tuple[Path, Path]) -> None:
    one, many = (folder / "train.parquet" for folder in folders)
    assert read_pairs(many).equals(read_pairs(one))
    assert read_manifest(many).equals(read_manifest(one))
    assert count_pairs(many) == COUNT
    rows = [0, 1023, 1024, 2047, 2499]
    assert read_rows(many, rows).equals(read_rows(one, rows))
    at = torch.tensor(rows)
    assert torch.equal(
        load_rows(folders[1], "train", at).images, load_split(one.parent, "train").images[at]
    )


def test_images_left_in_shards_are_those_of_one_file(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_split(folders[0], "train")
    monkeypatch.setattr(streaming, "_DECODED", 0)
    left = load_split(folders[1], "train")
    assert left.ids == whole.ids
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).split(300)
    for rows, images in zip(order, left.images.stream(order), strict=True):
        assert torch.equal(images, whole.images[rows])


def test_few_rows_need_no_shards(table: pa.Table, tmp_path: Path) -> None:
    write_pairs(table[:700], tmp_path / "one.parquet")
    write_split(table[:700], tmp_path / "few.parquet", per_shard=1000)
    assert (tmp_path / "few.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.parquet", "one.parquet"]


def test_groups_run_on_over_the_shards(folders: tuple[Path, Path]) -> None:
    one, many = (Groups(folder / "train.parquet") for folder in folders)
    assert many.firsts.tolist() == one.firsts.tolist() == list(range(0, COUNT, 128))


def test_a_shard_that_is_missing_is_told_with_what_is_there(
    table: pa.Table, tmp_path: Path
) -> None:
    write_split(table, tmp_path / "train.parquet", per_shard=1000)
    (tmp_path / "train" / "00001.parquet").unlink()
    path = tmp_path / "train.parquet"
    with pytest.raises(ArtifactError, match=r"lists 2500 pairs, but the shards .* hold 1476\."):
        files_of(path)
    (path.with_suffix("") / "00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(ArtifactError, match=r"a shard of it cannot be read"):
        Groups(path)
    for shard in path.with_suffix("").iterdir():
        shard.unlink()
    for read in (Groups, read_pairs, lambda path: read_rows(path, [3])):
        with pytest.raises(ArtifactError, match=r"the shards in .* hold 0\."):
            read(path)


def test_an_empty_folder_beside_a_whole_split_is_no_shards(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes((folders[0] / "train.parquet").read_bytes())
    path.with_suffix("").mkdir()
    assert read_pairs(path).num_rows == COUNT


def test_few_files_are_open_together(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "_OPEN", 1)
    groups = Groups(folders[1] / "train.parquet")
    for group in (0, 9, 19, 0):
        ids = groups.read(group, ["id"])["id"].to_pylist()
        assert ids[0] == f"row-{128 * group}"
        assert len(groups._open) == 1
