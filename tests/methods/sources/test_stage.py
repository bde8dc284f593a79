"""The stage ``download``: what it writes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipmend.data.pairs import PAIRS, SPLITS, read_pairs, write_pairs
from clipmend.data.writer import write_split
from clipmend.engine.job import Job
from clipmend.errors import PairsError
from clipmend.stages.download import run

FEW = {"train": 30, "trusted": 8, "val": 8, "test": 8, "image_size": 16}


def job_of(out: Path, method: str, settings: dict[str, Any], **shared: Any) -> Job:
    out.mkdir()
    return Job(
        cell=f"download/{method}",
        stage="download",
        method=method,
        seed=None,
        settings=settings,
        shared=shared,
        device="cpu",
        inputs={},
        out=out,
        work=out,
    )


def test_it_writes_four_splits_and_the_classes(tmp_path: Path) -> None:
    run(job_of(tmp_path / "scenes", "scenes", FEW))
    sizes = {
        split: read_pairs(tmp_path / "scenes" / f"{split}.parquet").num_rows for split in SPLITS
    }
    assert sizes == {"train": 30, "trusted": 8, "val": 8, "test": 8}
    vocabulary = json.loads((tmp_path / "scenes" / "classes.json").read_text())
    assert vocabulary["image_size"] == 16
    assert "banana" in vocabulary["classes"]
    assert all(prompt.count("{}") == 1 for prompt in vocabulary["prompts"])


def test_it_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(job_of(tmp_path / name, "scenes", FEW))
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_splits_of_many_rows_are_cut_into_shards_and_others_are_not(tmp_path: Path) -> None:
    many = FEW | {"train": 130}
    run(job_of(tmp_path / "single", "scenes", many))
    run(job_of(tmp_path / "cut", "scenes", many, rows_per_shard=100))
    single, cut = (read_pairs(tmp_path / name / "train.parquet") for name in ("single", "cut"))
    assert cut.equals(single)
    assert [file.name for file in sorted((tmp_path / "cut" / "train").iterdir())] == [
        "00000.parquet",
        "00001.parquet",
    ]
    assert not (tmp_path / "cut" / "test").exists()


def test_pairs_that_do_not_fit_leave_no_file(tmp_path: Path) -> None:
    job = job_of(tmp_path / "mine", "pairs", {"classes": ["a", "b"], "path": "nowhere"})
    with pytest.raises(PairsError):
        run(job)
    assert list(job.out.iterdir()) == []


def test_a_reader_and_a_table_of_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [
        {"id": f"{at}", "image": bytes([at % 256]) * 50, "caption": f"c{at % 7}", "label": None}
        for at in range(3000)
    ]
    table = pa.Table.from_pylist(rows, schema=PAIRS)
    reader = pa.RecordBatchReader.from_batches(PAIRS, table.to_batches(max_chunksize=700))
    write_pairs(table, tmp_path / "table")
    assert write_split(reader, tmp_path / "reader") == [row["id"] for row in rows]
    assert (tmp_path / "reader").read_bytes() == (tmp_path / "table").read_bytes()
