"""The pairs of a user are read as the source ``pairs`` reads them, labels and ids aside."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from clipmend.data import streaming
from clipmend.engine.job import Input
from clipmend.errors import PairsError
from clipmend.tools.standalone.options import Options
from clipmend.tools.standalone.reading import read_own_pairs


def test_captions_in_a_csv_file_need_neither_ids_nor_labels(pairs: Path, tmp_path: Path) -> None:
    rows = pq.read_table(pairs)[:70].to_pylist()
    lines = ["label,picture,text"]
    for row in rows:
        wide = Image.open(BytesIO(row["image"])).resize((64, 40))
        name = f"{row['id']}.png"
        wide.save(tmp_path / name)
        lines.append(f"unheard-of,{name},{row['caption']}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    options = Options("", tmp_path, image_column="picture", caption_column="text")
    read = read_own_pairs(options, size=24).pairs(tmp_path)
    assert read.ids[:2] == ("list-000000", "list-000001")
    assert read.captions == tuple(row["caption"] for row in rows)
    assert read.images.shape == (70, 3, 24, 24)
    assert set(read.label.tolist()) == {-1}


def test_only_train_is_read_where_files_are_named_after_splits(pairs: Path, tmp_path: Path) -> None:
    table = pq.read_table(pairs)
    pq.write_table(table[:40], tmp_path / "train-0.parquet")
    pq.write_table(table[40:100], tmp_path / "train-1.parquet")
    pq.write_table(table[100:200], tmp_path / "test.parquet")
    options = Options("", tmp_path)
    assert read_own_pairs(options, size=32).ids == tuple(table["id"].to_pylist()[:100])
    limited = read_own_pairs(replace(options, limit=70), size=32)
    assert limited.ids == tuple(table["id"].to_pylist()[:70])
    numbered = read_own_pairs(replace(options, id_column=""), size=32)
    assert numbered.ids[39:41] == ("train-0-000039", "train-1-000000")


def test_a_webdataset_shard_needs_no_labels_that_anybody_knows(
    pairs: Path, tmp_path: Path, shard: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    rows = pq.read_table(pairs)[:70].to_pylist()
    members: dict[str, bytes] = {}
    for row in rows:
        told = {"png": row["image"], "txt": row["caption"].encode(), "cls": b"unheard-of"}
        members |= {f"{row['id']}.{suffix}": data for suffix, data in told.items()}
    read = read_own_pairs(Options("", shard(tmp_path / "00000.tar", members)), size=24)
    assert read.ids == tuple(row["id"] for row in rows)
    assert read.captions == tuple(row["caption"] for row in rows)


def test_bad_rows_are_left_out_and_counted_or_refused(pairs: Path, tmp_path: Path) -> None:
    rows = pq.read_table(pairs)[:80].to_pylist()
    rows[2]["image"], rows[3]["caption"] = None, " "
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    options = Options("", tmp_path / "x.parquet")
    read = read_own_pairs(options, size=24)
    assert len(read.ids) == 78
    assert [row.row for row in read.bad.found.values()] == [2, 3]
    with pytest.raises(PairsError, match=r"row 2 .*the image is null.*\(2 of 80 rows"):
        read_own_pairs(replace(options, on_bad_rows="refuse"), size=24)


def test_a_pipe_is_not_waited_for_and_folders_that_are_not_read_are_named(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pq.read_table(pairs)[:70].to_pylist()
    lines = ["image,caption", *(f"{row['id']}.png,a frog" for row in rows), "pipe.png,a frog"]
    (tmp_path / "csv" / "more").mkdir(parents=True)
    for row in rows:
        (tmp_path / "csv" / f"{row['id']}.png").write_bytes(row["image"])
    os.mkfifo(tmp_path / "csv" / "pipe.png")
    (tmp_path / "csv" / "list.csv").write_text("\n".join(lines))
    read = read_own_pairs(Options("", tmp_path / "csv"), size=24)
    assert len(read.ids) == 70
    (bad,) = read.bad.found.values()
    assert (bad.row, bad.reason) == (70, f"the image {tmp_path}/csv/pipe.png is not a file")
    (tmp_path / "more").mkdir()
    for folder in (tmp_path, tmp_path / "more"):
        pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    assert len(read_own_pairs(Options("", tmp_path), size=24).ids) == 70
    assert f"{tmp_path}: files in the folders in it are not read: more" in caplog.messages


def test_images_that_outgrow_memory_are_decoded_from_a_copy_to_the_same_pixels(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pq.read_table(pairs)[:100].to_pylist()
    rows[5]["image"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=30)
    options = Options("", tmp_path / "x.parquet", limit=80)
    inside = read_own_pairs(options, size=24)
    monkeypatch.setattr(streaming, "_DECODED", 70 * 3 * 24**2)
    outside = read_own_pairs(options, size=24)
    assert outside.decoded is None
    assert outside.digest == inside.digest
    lazy, whole = outside.pairs(tmp_path), inside.pairs(tmp_path)
    assert lazy.captions == whole.captions
    assert not isinstance(lazy.images, torch.Tensor)
    assert torch.equal(lazy.images[:], whole.images[:])


def test_trusted_pairs_are_those_named_so_and_two_are_enough(corpus: Input, tmp_path: Path) -> None:
    read = read_own_pairs(Options("", trusted=corpus.folder), "trusted", size=24)
    assert set(read.ids) == {f"trusted-{number:06d}" for number in range(64)}
    pq.write_table(pq.read_table(corpus.folder / "trusted.parquet")[:1], tmp_path / "one.parquet")
    with pytest.raises(PairsError, match="has 1 pairs; at least 2 are needed"):
        read_own_pairs(Options("", trusted=tmp_path / "one.parquet"), "trusted", size=24)
