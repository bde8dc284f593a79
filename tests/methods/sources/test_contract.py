"""Every source of the table keeps to the contract of ``methods/sources/interface.py``."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from hashlib import md5
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipmend.data.images import decode
from clipmend.data.pairs import PAIRS, SPLITS
from clipmend.methods.sources.interface import RemoteSource, Source
from clipmend.methods.table import METHODS, create

NAMES = tuple(METHODS["download"])
SMALL = {"train": 8, "trusted": 4, "val": 4, "test": 4}


def labeled_folder(folder: Path, jpeg: Callable[[int], bytes]) -> Path:
    for name in ("frog", "ship"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            (folder / name / f"{number}.jpg").write_bytes(jpeg(number))
    return folder


@pytest.fixture
def served(
    web: Any, page: Any, jpeg: Any, archive: Any, hundred: bytes
) -> dict[str, dict[str, Any]]:
    """Serve images and archives, and return the settings that name the archives."""
    web.pages |= {f"/{number}": page("image", jpeg(number)) for number in range(20)}
    bodies = {"cifar10": archive(), "cifar100": hundred}
    web.pages |= {f"/{name}": page("file", body) for name, body in bodies.items()}
    return {
        name: {
            "url": f"{web.root}/{name}",
            "md5": md5(body, usedforsecurity=False).hexdigest(),
        }
        for name, body in bodies.items()
    }


@pytest.fixture
def settings(
    write: Callable[..., Path],
    jpeg: Callable[[int], bytes],
    served: dict[str, dict[str, Any]],
    web: Any,
    tmp_path: Path,
) -> dict[str, dict[str, Any]]:
    """Return the settings of the sources that cannot be made of small splits alone."""
    lines = (f"a frog {number}\t{web.root}/{number}\n" for number in range(20))
    (tmp_path / "rows.tsv").write_text("".join(lines))
    return served | {
        "pairs": {"classes": ["frog", "ship"], "path": str(write("mine.parquet", 40))},
        "cc3m": {
            "path": str(tmp_path / "rows.tsv"),
            "test_path": str(labeled_folder(tmp_path / "labeled", jpeg)),
            "classes": ["frog", "ship"],
            "prompts": ["a photo of a {}"],
            "private_networks": ["127.0.0.1/32"],
        },
    }


@pytest.fixture(params=NAMES)
def created(request: pytest.FixtureRequest, settings: dict[str, dict[str, Any]]) -> Any:
    """Return each source of the table as the stage creates it, with small splits."""
    return create("download", request.param, SMALL | settings.get(request.param, {}))


@pytest.fixture
def source(created: Any, tmp_path: Path) -> Source:
    """Return each source once it has its pairs."""
    for folder in ("work", "out"):
        (tmp_path / folder).mkdir()
    if isinstance(created, RemoteSource):
        return created.fetch(tmp_path / "work", tmp_path / "out")
    assert isinstance(created, Source)
    return created


def table(source: Source, name: str) -> pa.Table:
    split = source.split(name)
    return split if isinstance(split, pa.Table) else split.read_all()


def test_a_source_is_a_frozen_dataclass_of_settings(created: Any) -> None:
    assert fields(created)
    with pytest.raises(FrozenInstanceError):
        created.seed = 1


def test_a_source_says_what_a_classifier_needs(source: Source) -> None:
    assert isinstance(source, Source)
    assert len(set(source.classes)) == len(source.classes) >= 2
    assert source.prompts
    assert all(prompt.count("{}") == 1 for prompt in source.prompts)
    assert source.image_size > 0


def test_splits_hold_pairs_whose_ids_are_unique_and_whose_images_decode(source: Source) -> None:
    splits = {name: table(source, name) for name in SPLITS}
    assert all(split.schema == PAIRS and split.num_rows for split in splits.values())
    ids = [row_id for split in splits.values() for row_id in split["id"].to_pylist()]
    assert len(set(ids)) == len(ids)
    for split in splits.values():
        assert set(split["label"].to_pylist()) <= {*source.classes, None}
        assert all(split["caption"].to_pylist())
        for image in split["image"].to_pylist():
            decode(image, source.image_size)


def test_val_and_test_have_a_class_for_every_pair(source: Source) -> None:
    for name in ("val", "test"):
        assert set(table(source, name)["label"].to_pylist()) <= set(source.classes)


def test_a_split_is_the_same_whenever_it_is_read(source: Source) -> None:
    for name in SPLITS:
        assert table(source, name).equals(table(source, name))
