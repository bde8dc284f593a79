"""Poisoning: exactly the rows that were meant, and nothing that is not a file's."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from clipmend.data.pairs import OVERLAY, read_pairs
from clipmend.engine.job import Input
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Attack, Fitted, mark
from clipmend.stages import poison as stage

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


def test_an_image_that_the_trigger_leaves_alone_is_no_reason_to_refuse_it(
    world: Any, corpus: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    def but_the_first(attack: Attack, images: Tensor, ids: list[str], fitted: Fitted) -> Tensor:
        return torch.cat([images[:1], mark(attack, images, ids, fitted)[1:]])

    monkeypatch.setattr(stage, "mark", but_the_first)
    given = {"corpus": corpus}
    made = world.run("poison/tiny/badnet/seed3", "badnet", given, {"poison_rate": 0.1}, TARGET)
    stated = json.loads((made.folder / "triggers.json").read_text())
    assert stated["triggers"][0]["strength"]["n"] == 63
    assert stated["triggers"][0]["strength"]["n_unchanged"] == 1
    assert set(stated["definitions"]) == set(stated["triggers"][0]["strength"]) - {"n"}


def test_a_trigger_that_leaves_all_images_alone_is_refused(world: Any, corpus: Input) -> None:
    given = {"corpus": corpus}
    with pytest.raises(AttackError, match="'blended' changes no pixel"):
        world.run("poison/tiny/blended/seed0", "blended", given, {"alpha": 1e-6}, TARGET)


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
