"""Labeled images: class folders and webdataset shards."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from clipmend.data.pairs import PAIRS
from clipmend.errors import DownloadError
from clipmend.methods.sources.labeled_images import (
    Names,
    batches,
    find_images,
    imagenet_names,
    imagenet_prompts,
    seeded,
)

Jpeg = Callable[[int], bytes]
Shard = Callable[[Path, Mapping[str, bytes]], Path]
OWN = Names(("frog", "ship"), ("frog", "ship"), {})


def folders(top: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    return top


def refusal(path: Path, names: Names = OWN) -> str:
    with pytest.raises(DownloadError) as caught:
        find_images(path, names, "test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_named_by_wordnet_id_or_by_class_have_the_classes_of_open_clip(
    tmp_path: Path, jpeg: Jpeg
) -> None:
    top = folders(tmp_path, {"n07753592/x.JPEG": jpeg(1), "goldfish/y.jpg": jpeg(2)})
    (top / "n07753592" / "notes.txt").write_text("no image")
    images = find_images(top, imagenet_names(), "test")
    assert [(image.name, image.label) for image in images] == [
        ("goldfish/y.jpg", "goldfish"),
        ("n07753592/x.JPEG", "banana"),
    ]


def test_imagenet_has_998_different_names_and_80_templates() -> None:
    names = imagenet_names()
    assert (len(names.classes), len(names.by_number), len(names.aliases)) == (998, 1000, 1000)
    assert names.by_number[954] == "banana"
    prompts = imagenet_prompts()
    assert len(prompts) == 80
    assert all(prompt.count("{}") == 1 for prompt in prompts)


def test_a_shards_images_have_their_bytes_and_the_labels_beside_them(
    tmp_path: Path, jpeg: Jpeg, shard: Shard
) -> None:
    shard(
        tmp_path / "a.tar",
        {"./0.jpg": jpeg(0), "./0.cls": b"1", "1.cls": b"frog", "1.JPG": jpeg(1)},
    )
    shard(tmp_path / "b.tar", {"x/0.png": jpeg(2), "x/0.cls": b"0\n", "x/0.json": b"{}"})
    images = find_images(tmp_path, OWN, "test")
    assert [(image.name, image.label) for image in images] == [
        ("a/0", "ship"),
        ("a/1", "frog"),
        ("b/x/0", "frog"),
    ]
    assert [image.span.read() for image in images] == [jpeg(0), jpeg(1), jpeg(2)]


def test_they_become_pairs_whose_captions_name_the_class(tmp_path: Path, jpeg: Jpeg) -> None:
    top = folders(tmp_path, {"frog/x.jpg": jpeg(1)})
    table = pa.Table.from_batches(batches("test", find_images(top, OWN, "test")), PAIRS)
    assert table.to_pylist() == [
        {"id": "test/frog/x.jpg", "image": jpeg(1), "caption": "a photo of a frog", "label": "frog"}
    ]


def test_the_seeded_order_depends_on_the_names_alone(tmp_path: Path, jpeg: Jpeg) -> None:
    top = folders(tmp_path, {f"frog/{at}.jpg": jpeg(at) for at in range(20)})
    images = find_images(top, OWN, "test")
    assert seeded(images, 0) == seeded(images[::-1], 0) != seeded(images, 1)


def test_an_unknown_folder_is_named_with_what_is_allowed(tmp_path: Path, jpeg: Jpeg) -> None:
    top = folders(tmp_path, {"zebr/x.jpg": jpeg(1), "zzz/x.jpg": jpeg(1)})
    assert "'zebr' and 1 others is not a class; classes: frog, ship" in refusal(top)
    assert "or a WordNet id (n01440764 …)" in refusal(top, imagenet_names())


def test_shards_without_known_labels_are_refused(tmp_path: Path, jpeg: Jpeg, shard: Shard) -> None:
    shard(tmp_path / "a" / "x.tar", {"0.jpg": jpeg(0)})
    shard(tmp_path / "b" / "x.tar", {"0.jpg": jpeg(0), "0.cls": b"2"})
    folders(tmp_path, {"c/x.tar": b"no archive at all"})
    assert "the sample '0' has no label (.cls)" in refusal(tmp_path / "a")
    assert "says '2', which is not a class; classes: frog, ship" in refusal(tmp_path / "b")
    assert "cannot be read as a webdataset shard" in refusal(tmp_path / "c")


def test_a_path_without_images_is_refused(tmp_path: Path) -> None:
    assert "holds no image" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "none")
