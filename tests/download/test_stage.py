"""The stage ``download``: what it writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from clipmend.corpus.pairs import SPLITS, read_pairs
from clipmend.download.stage import run
from clipmend.errors import PairsError
from clipmend.job import Job

FEW = {"train": 30, "trusted": 8, "val": 8, "test": 8, "image_size": 16}


def job_of(out: Path, method: str, settings: dict[str, Any]) -> Job:
    out.mkdir()
    return Job(
        cell=f"download/{method}",
        stage="download",
        method=method,
        seed=None,
        settings=settings,
        shared={},
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
    stated = json.loads((tmp_path / "scenes" / "classes.json").read_text())
    assert stated["image_size"] == 16
    assert "banana" in stated["classes"]
    assert all(prompt.count("{}") == 1 for prompt in stated["prompts"])


def test_it_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(job_of(tmp_path / name, "scenes", FEW))
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_pairs_that_do_not_fit_leave_no_file(tmp_path: Path) -> None:
    job = job_of(tmp_path / "mine", "pairs", {"classes": ["a", "b"], "path": "nowhere"})
    with pytest.raises(PairsError):
        run(job)
    assert list(job.out.iterdir()) == []
