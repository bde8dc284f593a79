"""The sources ``cifar10`` and ``cifar100``, from an archive on loopback to the splits."""

import json
import os
from collections import Counter
from collections.abc import Callable
from hashlib import md5
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmend.data.pairs import SPLITS, read_pairs
from clipmend.engine import presets
from clipmend.methods.sources.cifar10 import CIFAR10
from clipmend.methods.sources.cifar100 import CIFAR100
from clipmend.methods.sources.photographs import FORMS, caption

Download = Callable[..., tuple[int, str]]
Archive = Callable[..., bytes]
Refused = Callable[[dict[str, Any], str], None]
FEW = {"source": "cifar10", "trusted": 5, "val": 6}


@pytest.fixture
def served(web: Any, page: Any) -> Callable[..., dict[str, Any]]:
    """Return a function that serves an archive and returns the settings for it."""

    def serve(body: bytes, kind: str = "file", sum_of: bytes | None = None) -> dict[str, Any]:
        web.forget()
        web.pages["/cifar.tar.gz"] = page(kind, body, "429")
        checksum = md5(sum_of or body, usedforsecurity=False).hexdigest()
        return FEW | {"url": f"{web.root}/cifar.tar.gz", "md5": checksum}

    return serve


def rows(split: str) -> list[dict[str, Any]]:
    return read_pairs(Path(f"results/download/mine/{split}.parquet")).to_pylist()


def test_photos_is_made_by_command_alone(
    download: Download, archive: Archive, served: Any, tmp_path: Path
) -> None:
    own = presets.values(presets.preset("photos"))["download"]["settings"]["photos"]
    few = {"per_class": 4, "test_per_class": 2, "train": 29, "test": 20}
    code, printed = download(**(own | served(archive()) | few))
    assert code == 0, printed
    sizes = {"train": 29, "trusted": 5, "val": 6, "test": 20}
    assert {split: len(rows(split)) for split in SPLITS} == sizes
    everything = [row for split in SPLITS for row in rows(split)]
    assert Counter(row["label"] for row in everything) == dict.fromkeys(
        json.loads(Path("results/download/mine/classes.json").read_text())["classes"], 6
    )
    assert {Image.open(BytesIO(row["image"])).format for row in everything} == {"JPEG"}
    assert not list(tmp_path.glob("cifar*"))  # nothing lies about


def test_a_pair_is_the_pixels_of_the_archive_with_a_caption_that_names_the_class(
    download: Download, archive: Archive, served: Any
) -> None:
    assert download(**served(archive()))[0] == 0
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)  # the test batch
    labels = [f"test/{label}/{at // 10:04d}.jpg" for at, label in enumerate(ten() * 2)]
    made = {row["id"]: row for row in rows("test")}
    assert list(made) == labels
    for picture, row_id in zip(pixels, labels, strict=True):
        image = np.asarray(Image.open(BytesIO(made[row_id]["image"])))
        assert (image == picture.reshape(3, 32, 32).transpose(1, 2, 0)).all()
    for row in (row for split in SPLITS for row in rows(split)):
        names = (row["label"], *CIFAR10.SYNONYMS.get(row["label"], ()))
        assert any(name in row["caption"] for name in names)


def ten() -> list[str]:
    return list(CIFAR10.PLACES)


def test_splits_and_captions_depend_on_seed_and_photographs_alone(
    download: Download, archive: Archive, served: Any
) -> None:
    def texts(**settings: Any) -> dict[str, dict[str, str]]:
        assert download(**(served(archive()) | settings))[0] == 0
        return {split: {row["id"]: row["caption"] for row in rows(split)} for split in SPLITS}

    first = texts()
    assert texts(stored_as="jpeg") == first
    fewer = texts(per_class=4)
    assert fewer["test"] == first["test"]
    both = fewer["train"].keys() & first["train"].keys()
    assert both and all(fewer["train"][row_id] == first["train"][row_id] for row_id in both)
    other = texts(seed=1)
    assert other["val"].keys() != first["val"].keys()
    assert other["test"] != first["test"]


def test_captions_have_the_shares_that_are_documented() -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << 56, 5_000).tolist()
    texts = [caption(("ox", "bull"), ("at dawn", "at noon"), number) for number in numbers]
    assert sum("bull" in text for text in texts) / 5_000 == pytest.approx(0.175, abs=0.02)
    assert sum("at dawn" in text for text in texts) / 5_000 == pytest.approx(0.2, abs=0.02)
    bare = Counter(text for text in texts if "bull" not in text and "at " not in text)
    assert set(bare) == {form.format("ox", a="an") for form in FORMS}
    assert {caption(("deer",), (), number) for number in numbers} == {
        form.format("deer", a="a") for form in FORMS
    }


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100])
def test_address_and_checksum_are_torchvisions(source: Any) -> None:
    from clipmend.model import openclip  # noqa: F401  (else torchvision may not import)

    loader = getattr(import_module("torchvision.datasets"), source.__name__)
    assert (source.url, source.md5) == (loader.url, loader.tgz_md5)
    own = [[name for name, _ in files] for files in (loader.train_list, loader.test_list)]
    assert [list(files) for files in source.FILES[:2]] == own
    assert source.FILES[2] == loader.meta["filename"]


def test_the_hundred_classes_have_names_without_underscores_and_places_by_superclass(
    download: Download, hundred: bytes, served: Any
) -> None:
    assert download(**(served(hundred) | {"source": "cifar100"}))[0] == 0
    classes = json.loads(Path("results/download/mine/classes.json").read_text())["classes"]
    assert classes == ["aquarium fish", "ray", "oak tree"]
    texts = " ".join(row["caption"] for row in rows("train") + rows("test"))
    assert "oak tree in autumn" in texts
    assert "goldfish" in texts
    assert len(CIFAR100.PLACES) == 20


# Bad input


def test_an_address_without_the_archive_is_one_line_and_not_final(
    download: Download, refused: Refused, archive: Archive, served: Any, page: Any, web: Any
) -> None:
    settings = served(b"", "status", sum_of=archive())
    refused(settings, r"cannot be downloaded: it answered 429 \(Too Many Requests\)")
    web.pages["/cifar.tar.gz"] = page("redirect", place="/cifar.tar.gz")
    refused(settings, "cannot be downloaded: .*redirects")
    refused(settings | {"url": f"{web.root}/nothing"}, r"it answered 404 \(Not Found\)")
    refused(
        settings | {"url": "http://127.0.0.1:1/x"}, "cannot be downloaded: .*[Cc]onn.*run again"
    )
    refused(settings | {"url": "nowhere/x"}, "nowhere/x cannot be downloaded")
    assert download(**served(archive()))[0] == 0


def test_a_download_that_was_cut_short_is_continued_or_begun_anew(
    refused: Refused, download: Download, archive: Archive, served: Any, web: Any
) -> None:
    body = archive()
    settings = served(body[: len(body) // 2], "short", sum_of=body)
    answer = web.pages["/cifar.tar.gz"]
    kept = rf"{len(body) // 2} bytes of it are kept.* run again to continue"
    refused(settings, kept)
    answer.kind, answer.body = "file", body
    assert download(**settings)[0] == 0
    assert len(web.asked) == 2
    settings["seed"] = 1  # another key, with a folder of its own
    answer.kind, answer.body = "short", body[: len(body) // 2]
    refused(settings, kept)
    answer.kind, answer.body = "image", body  # sends a file from its start, whatever it is asked
    assert download(**settings)[0] == 0


def test_a_checksum_that_differs_is_one_line_and_the_file_is_fetched_anew(
    refused: Refused, download: Download, archive: Archive, served: Any, web: Any, page: Any
) -> None:
    body = archive()
    wrong = body[:-100]
    settings = served(wrong, sum_of=body)
    found = md5(wrong, usedforsecurity=False).hexdigest()
    refused(settings, f"gave {len(wrong)} bytes with the MD5 {found}, not .* run again")
    web.pages["/cifar.tar.gz"] = page("file", body)
    assert download(**settings)[0] == 0


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"test_batch": None}, "lacks test_batch"),
        ({"batches.meta": {"label_names": ["one"]}}, "cannot be read as CIFAR's: .*index"),
        ({"test_batch": {"data": np.zeros((2, 9)), "labels": [0, 1]}}, "2 labels and .* float64"),
        ({"test_batch": {"labels": [0, 1]}}, "cannot be read as CIFAR's: 'data'"),
        ({"test_batch": Evil()}, "names posix.mkdir, which pictures do not need"),
    ],
)
def test_an_archive_that_is_not_cifars_is_refused_and_nothing_of_it_runs(
    replaced: Any, message: str, refused: Refused, archive: Archive, served: Any
) -> None:
    refused(served(archive(**replaced)), message)
    assert not Path("owned").exists()


def test_a_file_that_is_no_archive_is_refused(refused: Refused, served: Any) -> None:
    refused(served(b"<html>moved</html>"), "cannot be read as CIFAR's: not a gzip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": 6}, "6 pictures of each class are wanted for train; airplane has 5"),
        ({"test": 21}, "test: 21 needs more than 20 pictures"),
        ({"val": 50}, "50 training pairs are too few"),
        ({"prompts": ["a photo"]}, "needs one {}"),
    ],
)
def test_sizes_and_prompts_that_do_not_fit_are_refused(
    settings: Any, message: str, refused: Refused, archive: Archive, served: Any
) -> None:
    refused(served(archive()) | settings, message)
