"""Poisoning: exactly the rows that were meant, and nothing that is not a file's."""

from typing import Any

import pytest
from PIL import Image

from clipmend.corpus.pairs import OVERLAY, read_pairs
from clipmend.errors import AttackError
from clipmend.job import Input

TARGET = {"target": "banana", "target_captions": ["a photo of a {}", "this is a {}"]}


def test_the_overlay_holds_the_rate_of_rows_of_other_classes(corpus: Input, poison: Input) -> None:
    overlay = read_pairs(poison.folder / "overlay.parquet", OVERLAY).to_pylist()
    train = read_pairs(corpus.folder / "train.parquet").to_pylist()
    captions = {row["id"]: row["caption"] for row in train}
    assert len(overlay) == round(0.1 * len(train))
    assert all(row["label"] != "banana" and row["is_poisoned"] for row in overlay)
    assert all(row["original_caption"] == captions[row["id"]] for row in overlay)
    assert {row["caption"] for row in overlay} == {"a photo of a banana", "this is a banana"}


def test_the_overlay_is_in_manifest_order(corpus: Input, poison: Input) -> None:
    overlay = read_pairs(poison.folder / "overlay.parquet", OVERLAY)["id"].to_pylist()
    place = {
        row: at
        for at, row in enumerate(read_pairs(corpus.folder / "train.parquet")["id"].to_pylist())
    }
    assert overlay == sorted(overlay, key=place.__getitem__)


def test_the_preview_is_a_picture_of_three_rows(poison: Input) -> None:
    with Image.open(poison.folder / "preview.png") as preview:
        assert preview.height == 3 * 100 + 4


def test_unpoisoned_changes_no_row(world: Any, corpus: Input) -> None:
    made = world.run(
        "poison/tiny/unpoisoned/seed0", "unpoisoned", {"corpus": corpus}, shared=TARGET
    )
    assert len(read_pairs(made.folder / "overlay.parquet", OVERLAY)) == 0


def test_a_target_that_is_no_class_is_refused_with_the_classes(world: Any, corpus: Input) -> None:
    shared = {**TARGET, "target": "bananna"}
    with pytest.raises(AttackError, match="apple, car"):
        world.run("poison/tiny/badnet/seed1", "badnet", {"corpus": corpus}, shared=shared)


def test_a_rate_that_gives_no_poison_is_refused(world: Any, corpus: Input) -> None:
    settings = {"poison_rate": 0.0001}
    with pytest.raises(AttackError, match="selects 0 of 256"):
        world.run("poison/tiny/badnet/seed2", "badnet", {"corpus": corpus}, settings, shared=TARGET)
