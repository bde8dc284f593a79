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


def test_the_overlay_holds_the_rate_of_rows_of_other_classes_in_manifest_order(
    corpus: Input, poison: Input
) -> None:
    overlay = read_pairs(poison.folder / "overlay.parquet", OVERLAY).to_pylist()
    train = read_pairs(corpus.folder / "train.parquet").to_pylist()
    captions = {row["id"]: row["caption"] for row in train}
    assert len(overlay) == round(0.1 * len(train))
    assert all(row["label"] != "banana" and row["is_poisoned"] for row in overlay)
    assert all(row["original_caption"] == captions[row["id"]] for row in overlay)
    assert {row["caption"] for row in overlay} == {"a photo of a banana", "this is a banana"}
    ids = [row["id"] for row in overlay]
    assert ids == sorted(ids, key=list(captions).index)


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
    cell = world.run("poison/tiny/badnet/seed3", "badnet", {"corpus": corpus}, {"poison_rate": 0.1})
    summary = json.loads((cell.folder / "triggers.json").read_text())
    strength = summary["triggers"][0]["strength"]
    assert (strength["n"], strength["n_unchanged"]) == (63, 1)
    assert set(summary["definitions"]) == set(strength) - {"n"}


def test_unpoisoned_changes_no_row(world: Any, corpus: Input) -> None:
    cell = world.run("poison/tiny/unpoisoned/seed0", "unpoisoned", {"corpus": corpus})
    assert len(read_pairs(cell.folder / "overlay.parquet", OVERLAY)) == 0


@pytest.mark.parametrize(
    ("attack", "settings", "target", "message"),
    [
        ("blended", {"alpha": 1e-6}, "banana", "'blended' changes no pixel"),
        ("badnet", {}, "bananna", "apple, car"),
        ("badnet", {"poison_rate": 0.0001}, "banana", "selects 0 of 256"),
    ],
)
def test_an_attack_that_changes_no_pixel_or_pair_or_has_no_class_as_target_is_refused(
    world: Any, corpus: Input, attack: str, settings: dict[str, Any], target: str, message: str
) -> None:
    shared = {"target": target, "target_captions": ["a photo of a {}"]}
    cell = f"poison/refused/{attack}/{target}/{len(settings)}"
    with pytest.raises(AttackError, match=message):
        world.run(cell, attack, {"corpus": corpus}, settings, shared)
