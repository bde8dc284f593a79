"""Rows of CC3M: the columns that are read, and the rows that are sampled."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmend.data.seeds import seed_of
from clipmend.errors import DownloadError
from clipmend.methods.sources.addresses import order_of, read_rows, sample_rows

ROWS = [
    ("a dog", "http://a.example/1"),
    ('"quoted', "https://b.example/2?x=1"),
    ("é", "HTTP://c/3"),
]


def tsv(folder: Path, text: str) -> Path:
    path = folder / "rows.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def table(count: int) -> pa.Table:
    return pa.table(
        {
            "caption": [f"c{at}" for at in range(count)],
            "url": [f"http://x/{at}" for at in range(count)],
        }
    )


def refusal(path: Path, caption: str = "caption", url: str = "image_url") -> str:
    with pytest.raises(DownloadError) as caught:
        read_rows(path, caption, url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pairs(rows: pa.Table) -> list[tuple[Any, Any]]:
    return list(zip(rows["caption"].to_pylist(), rows["url"].to_pylist(), strict=True))


def test_a_tsv_and_a_parquet_folder_give_the_same_rows(tmp_path: Path) -> None:
    text = "".join(f"{caption}\t{url}\n" for caption, url in ROWS)
    folder = tmp_path / "parts"
    folder.mkdir()
    for part, rows in enumerate((ROWS[:2], ROWS[2:])):
        captions, urls = zip(*rows, strict=True)
        pq.write_table(pa.table({"link": urls, "text": captions}), folder / f"{part}.parquet")
    assert pairs(read_rows(tsv(tmp_path, text), "caption", "image_url")) == ROWS
    assert pairs(read_rows(folder, "text", "link")) == ROWS


def test_an_id_is_the_position_in_the_file() -> None:
    sampled = sample_rows(table(50), 20, 10, seed=0)
    for part in sampled.values():
        assert part["url"].to_pylist() == [
            f"http://x/{int(row_id)}" for row_id in part["id"].to_pylist()
        ]
        assert part["id"].to_pylist() == sorted(part["id"].to_pylist())


def test_train_and_trusted_are_disjoint_and_more_of_one_leaves_the_other() -> None:
    ids = {
        (train, trusted): {
            k: set(v["id"].to_pylist())
            for k, v in sample_rows(table(90), train, trusted, 0).items()
        }
        for train, trusted in ((30, 20), (40, 20), (30, 60))
    }
    assert not ids[30, 60]["train"] & ids[30, 60]["trusted"]
    assert ids[40, 20]["trusted"] == ids[30, 20]["trusted"] < ids[30, 60]["trusted"]
    assert ids[30, 60]["train"] == ids[30, 20]["train"] < ids[40, 20]["train"]


def test_the_order_is_that_of_splitmix64_by_hand() -> None:
    def number(position: int) -> int:
        state = (seed_of(3, "cc3m/rows") + (position + 1) * 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    assert order_of(500, 3).tolist() == sorted(range(500), key=number)


def test_a_longer_file_keeps_the_order_of_the_rows_it_shares() -> None:
    longer = order_of(1000, 0)
    assert longer[longer < 400].tolist() == order_of(400, 0).tolist()


def test_another_seed_is_another_order_and_neither_is_the_files() -> None:
    first, second = order_of(1000, 0), order_of(1000, 1)
    for order, other in ((first, second), (first, np.arange(1000))):
        assert abs(np.corrcoef(np.argsort(order), np.argsort(other))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("caption\turl\n" + "a dog\thttp://a/1\n" * 9, "probably a header"),
        ("http://a/1\ta dog\n" * 9, "the columns are swapped"),
        ("a dog\ta cat\n" * 9, "most rows have no address in the URL column"),
        ("a dog\n" * 9, "Expected 2 columns"),
        ("a dog\thttp://a/1\tx\n" * 9, "Expected 2 columns"),
        ("", "cannot be read as caption, tab, URL"),
    ],
)
def test_files_that_are_not_caption_tab_url_are_refused(
    tmp_path: Path, text: str, part: str
) -> None:
    assert part in refusal(tsv(tmp_path, text))


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "link": ["http://a/1"]}), tmp_path / "x.parquet")
    assert "no column 'image_url' (url_column); it has: text, link" in refusal(
        tmp_path / "x.parquet", "text"
    )


def test_a_path_without_rows_is_refused_with_the_allowed_forms(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tsv", tmp_path):
        assert "allowed are the TSV of CC3M" in refusal(path)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DownloadError, match="it has 5 rows in all; lower train or trusted"):
        sample_rows(table(5), 4, 2, seed=0)
