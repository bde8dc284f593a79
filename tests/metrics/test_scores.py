"""Scores are read with their pairs, and refused with other pairs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.errors import ArtifactError
from clipmend.metrics.scores import read_scores

IDS = ("a", "b", "c")


def write(folder: Path, **columns: list[object]) -> Path:
    pq.write_table(
        pa.table({"id": list(IDS), "score": [0.5, 2.0, 1.0], **columns}), folder / "scores.parquet"
    )
    return folder


def test_the_suspects_are_the_rows_that_the_detector_selects(tmp_path) -> None:
    scores = read_scores(write(tmp_path, suspect=[False, True, True]), IDS)
    assert scores.score.tolist() == [0.5, 2.0, 1.0]
    assert scores.suspects.tolist() == [1, 2]


def test_every_row_is_a_suspect_where_the_detector_selects_none(tmp_path) -> None:
    assert read_scores(write(tmp_path), IDS).suspects.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ids", [("a", "c", "b"), ("a", "b"), ("a", "b", "c", "d")])
def test_scores_of_other_pairs_are_refused(tmp_path, ids) -> None:
    with pytest.raises(ArtifactError, match="does not score the pairs"):
        read_scores(write(tmp_path), ids)
