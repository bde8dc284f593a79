"""The stage ``poison``: its files, and the errors of its settings."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.badnet import BadNet


def test_the_preview_has_three_rows_of_images(poison) -> None:
    with Image.open(poison.folder / "preview.png") as preview:
        assert preview.height == 3 * 100 + 4


def test_a_trigger_that_leaves_one_image_unchanged_is_accepted_and_the_image_counted(
    world, corpus, monkeypatch
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


@pytest.mark.parametrize(
    ("attack", "settings", "target", "message"),
    [
        ("blended", {"alpha": 1e-6}, "banana", "'blended' changes no pixel"),
        ("badnet", {}, "bananna", "apple, car"),
    ],
)
def test_an_attack_that_changes_no_pixel_or_has_no_class_as_target_is_refused(
    world, corpus, attack, settings, target, message
) -> None:
    shared = {"target": target, "target_captions": ["a photo of a {}"]}
    with pytest.raises(AttackError, match=message):
        world.run(f"poison/refused/{attack}/seed0", attack, {"corpus": corpus}, settings, shared)
