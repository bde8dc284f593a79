"""A shard of downloads: which bytes are stored, and the reasons of failures."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipmend.methods.sources.fetching import OUTCOMES, fetch_shard, images, outcomes
from clipmend.methods.sources.web import Limits

LIMITS = Limits(5.0, 10.0, max_bytes=100_000, private_networks=("127.0.0.1/32",))
Jpeg = Callable[[int], bytes]  # of 12 x 8 pixels


def kept(web: Any, page: Any, folder: Path, data: bytes, stored_size: int | None) -> bytes:
    web.pages["/x"] = page("image", data)
    path = folder / "0.parquet"
    fetch_shard(path, ["a"], [f"{web.root}/x"], LIMITS, stored_size)
    assert [path.name for path in folder.iterdir()] == ["0.parquet"]
    row = pq.read_table(path).cast(OUTCOMES).to_pylist()[0]
    assert row["size"] == len(data)
    assert row["reason"] is None
    return bytes(row["image"])


@pytest.mark.parametrize("stored_size", [None, 8, 100])
def test_bytes_are_kept_where_nothing_is_reduced(
    web: Any, page: Any, jpeg: Jpeg, tmp_path: Path, stored_size: int | None
) -> None:
    assert kept(web, page, tmp_path, jpeg(7), stored_size) == jpeg(7)


def test_a_larger_image_is_reduced_by_its_short_side(
    web: Any, page: Any, jpeg: Jpeg, tmp_path: Path
) -> None:
    assert Image.open(BytesIO(kept(web, page, tmp_path, jpeg(7), 4))).size == (6, 4)


def test_the_second_pass_replaces_what_the_first_gave(
    web: Any, page: Any, jpeg: Jpeg, tmp_path: Path
) -> None:
    web.pages |= {
        "/here": page("image", jpeg(1)),
        "/late": page("status", place="503"),
        "/gone": page("status", place="404"),
    }
    for turn in ("pass1", "pass2"):
        (tmp_path / turn).mkdir()
    ids, urls = ["a", "b", "c"], [f"{web.root}/{name}" for name in ("here", "late", "gone")]
    fetch_shard(tmp_path / "pass1/00000.parquet", ids, urls, LIMITS, None)
    first = outcomes(tmp_path)
    assert first["reason"].to_pylist() == [None, "http_503", "http_404"]
    assert first["error"].to_pylist() == [None, "Service Unavailable", "Not Found"]
    web.pages["/late"] = page("image", jpeg(2))
    fetch_shard(tmp_path / "pass2/00000.parquet", ["b"], urls[1:2], LIMITS, None)
    assert outcomes(tmp_path)["reason"].to_pylist() == [None, None, "http_404"]
    assert list(images(tmp_path, {"a", "b"})) == [("a", jpeg(1)), ("b", jpeg(2))]


def test_an_image_that_is_no_jpeg_becomes_one_on_white(web: Any, page: Any, tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.new("RGBA", (12, 8), (255, 0, 0, 0)).save(buffer, format="PNG")
    stored = Image.open(BytesIO(kept(web, page, tmp_path, buffer.getvalue(), 100)))
    assert (stored.format, stored.size, stored.mode) == ("JPEG", (12, 8), "RGB")
    assert stored.getpixel((3, 3)) == (255, 255, 255)


def test_an_address_that_occurs_twice_is_asked_once(
    web: Any, page: Any, jpeg: Jpeg, tmp_path: Path
) -> None:
    web.forget()
    web.pages["/twin"] = page("image", jpeg(3))
    fetch_shard(tmp_path / "0.parquet", ["a", "b"], [f"{web.root}/twin"] * 2, LIMITS, None)
    assert pq.read_table(tmp_path / "0.parquet")["image"].to_pylist() == [jpeg(3)] * 2
    assert web.asked == ["/twin"]
