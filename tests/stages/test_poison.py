"""The stage ``poison``: its files, and the errors of its settings."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from clipmend.data.pairs import OVERLAY, read_pairs
from clipmend.engine.job import Input
from clipmend.errors import AttackError
from clipmend.methods.attacks.badnet import BadNet

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
    manifest = read_pairs(corpus.folder / "train.parquet")["id"].to_pylist()
    assert overlay == sorted(overlay, key=manifest.index)


def test_the_preview_has_three_rows_of_images(poison: Input) -> None:
    with Image.open(poison.folder / "preview.png") as preview:
        assert preview.height == 3 * 100 + 4


def test_a_trigger_that_leaves_one_image_unchanged_is_accepted_and_the_image_counted(
    world: Any, corpus: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = BadNet.mark

    def but_the_first(attack: BadNet, images: Tensor, *rest: Any) -> Tensor:
        return torch.cat([images[:1], mark(attack, images, *rest)[1:]])

    monkeypatch.setattr(BadNet, "mark", but_the_first)
    inputs = {"corpus": corpus}
    cell = world.run("poison/tiny/badnet/seed3", "badnet", inputs, {"poison_rate": 0.1}, TARGET)
    summary = json.loads((cell.folder / "triggers.json").read_text())
    assert summary["triggers"][0]["strength"]["n"] == 63
    assert summary["triggers"][0]["strength"]["n_unchanged"] == 1
    assert set(summary["definitions"]) == set(summary["triggers"][0]["strength"]) - {"n"}


def test_a_trigger_that_leaves_all_images_unchanged_is_refused(world: Any, corpus: Input) -> None:
    inputs = {"corpus": corpus}
    with pytest.raises(AttackError, match="'blended' changes no pixel"):
        world.run("poison/tiny/blended/seed0", "blended", inputs, {"alpha": 1e-6}, TARGET)


def test_unpoisoned_changes_no_row(world: Any, corpus: Input) -> None:
    cell = world.run(
        "poison/tiny/unpoisoned/seed0", "unpoisoned", {"corpus": corpus}, shared=TARGET
    )
    assert len(read_pairs(cell.folder / "overlay.parquet", OVERLAY)) == 0


def test_a_target_that_is_not_a_class_is_refused_with_the_classes(
    world: Any, corpus: Input
) -> None:
    shared = {**TARGET, "target": "bananna"}
    with pytest.raises(AttackError, match="apple, car"):
        world.run("poison/tiny/badnet/seed1", "badnet", {"corpus": corpus}, shared=shared)


def test_a_rate_that_selects_no_pair_is_refused(world: Any, corpus: Input) -> None:
    settings = {"poison_rate": 0.0001}
    with pytest.raises(AttackError, match="selects 0 of 256"):
        world.run("poison/tiny/badnet/seed2", "badnet", {"corpus": corpus}, settings, shared=TARGET)
