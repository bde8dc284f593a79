"""Pictures and files of pairs such as a user has."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

CLASSES = ("frog", "ship")


def _jpeg(shade: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (12, 8), (shade % 256, 90, 30)).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture
def jpeg() -> Callable[[int], bytes]:
    """Return what encodes a picture of one shade."""
    return _jpeg


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of parquet pairs; a column given by keyword replaces the usual one."""

    def write(name: str, count: int, prefix: str = "row", **replaced: Any) -> Path:
        usual = {
            "id": [f"{prefix}-{row}" for row in range(count)],
            "image": [_jpeg(row) for row in range(count)],
            "caption": [f"a photo of a {CLASSES[row % 2]}" for row in range(count)],
            "label": [CLASSES[row % 2] for row in range(count)],
        }
        columns = {key: value for key, value in (usual | replaced).items() if value is not None}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return write
