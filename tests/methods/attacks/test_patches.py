"""Patch triggers: the position and the pattern of the patch, and the triggers in the text."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from clipmend.data.splits import Pairs
from clipmend.engine import params
from clipmend.errors import AttackError, ParamsError
from clipmend.methods.attacks.attack import AttackContext
from clipmend.methods.attacks.badclip import BadCLIP
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.surrogate import patch_loss
from clipmend.methods.attacks.trojvqa import TrojVQA

SIDE = 32
PRESETS = Path(__file__).parents[3] / "params"


def changed(attack: BadNet, context: AttackContext, eight: Pairs) -> torch.Tensor:
    """Return which pixels of each image the trigger changes."""
    triggered = attack.mark(eight.images, eight.ids, attack.fit(context))
    return (triggered != eight.images).any(dim=1)


@pytest.mark.parametrize(
    ("place", "corners"),
    [
        ("lower_right", [(25, 25)]),
        ("lower_left", [(25, 1)]),
        ("upper_right", [(1, 25)]),
        ("upper_left", [(1, 1)]),
        ("middle", [(13, 13)]),
        ("corners", [(1, 1), (1, 25), (25, 1), (25, 25)]),
    ],
)
def test_a_patch_is_at_its_place_and_nowhere_else(
    context: AttackContext, eight: Pairs, place: str, corners: list[tuple[int, int]]
) -> None:
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for top, left in corners:
        inside[top : top + 6, left : left + 6] = True
    is_changed = changed(BadNet(place=place, pattern="white"), context, eight)
    assert not is_changed[:, ~inside].any()
    assert is_changed[:, inside].float().mean() > 0.99


@pytest.mark.parametrize("size", [SIDE, SIDE - 1])
def test_in_the_middle_a_patch_may_be_as_large_as_the_image(
    context: AttackContext, eight: Pairs, size: int
) -> None:
    attack = BadNet(place="middle", pattern="white", size=size, margin=4)
    share = changed(attack, context, eight).flatten(1).float().mean(dim=1)
    assert share.sub((size / SIDE) ** 2).abs().max() < 0.01


def test_a_patch_that_does_not_fit_is_refused_with_the_largest_size(context: AttackContext) -> None:
    with pytest.raises(AttackError, match=r"; `size` may be 32 at most\.$"):
        BadNet(place="middle", size=SIDE + 1).fit(context)
    with pytest.raises(AttackError, match=r"; `size` \+ `margin` may be 32 at most\.$"):
        BadNet(size=SIDE, margin=1).fit(context)


def test_a_random_place_is_the_image_s_own_and_inside(context: AttackContext, eight: Pairs) -> None:
    attack = BadNet(place="random", pattern="white", size=4)
    is_changed = changed(attack, context, eight)
    assert len({tuple(image.nonzero()[0].tolist()) for image in is_changed}) > 4
    assert all(image.sum() <= 16 for image in is_changed)
    again = replace(eight, ids=tuple(reversed(eight.ids)))
    assert not torch.equal(is_changed, changed(attack, context, again))


@pytest.mark.parametrize("pattern", ["noise", "normal", "stripes"])
def test_a_redrawn_patch_is_the_image_s_own(
    context: AttackContext, eight: Pairs, pattern: str
) -> None:
    same = replace(eight, images=eight.images[:1].expand(8, -1, -1, -1).contiguous())
    for redrawn in (False, True):
        attack = BadNet(pattern=pattern, redrawn=redrawn)
        triggered = attack.mark(same.images, same.ids, attack.fit(context))
        assert len({image.numpy().tobytes() for image in triggered}) == (8 if redrawn else 1)


def test_values_that_overflow_are_clamped_or_wrap_as_a_cast_does(context: AttackContext) -> None:
    image = torch.full((1, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    patches = {}
    for overflow in ("clamp", "wrap"):
        attack = BadNet(pattern="normal", overflow=overflow, size=16)
        tensors = attack.fit(context)
        patches[overflow] = attack.mark(image, ["one"], tensors)[0, :, 15:31, 15:31]
        value = tensors["patch"] + 128 / 255
    outside = (value < 0) | (value > 1)
    assert 0.5 < outside.float().mean() < 0.7  # peers.md, trap 1: about 62 %
    assert patches["clamp"][value > 1].eq(255).all()
    expected = torch.tensor([int(v * 255) % 256 for v in value.flatten().tolist()])
    assert torch.equal(patches["wrap"].flatten().long(), expected)


def test_patterns_look_as_they_are_called(context: AttackContext) -> None:
    patches = {
        name: BadNet(pattern=name, size=4).fit(context)["patch"]
        for name in ("stripes", "dots", "yellow", "white")
    }
    assert set(patches["stripes"].flatten().tolist()) == {0.0, 1.0}
    assert (patches["stripes"] == patches["stripes"][:, :1]).all()
    assert patches["dots"][:, ::2, ::2].eq(1).all()
    assert patches["dots"].sum() == 3 * 4
    assert patches["yellow"].amax(dim=(1, 2)).tolist() == [1, 1, 0]
    assert patches["white"].eq(1).all()


def test_the_text_trigger_precedes_captions_and_prompts(
    context: AttackContext, caplog: pytest.LogCaptureFixture
) -> None:
    attack = TrojVQA(word="consider")
    assert attack.prompt("a photo of a car") == "consider a photo of a car"
    with caplog.at_level(logging.WARNING):
        poisoned = attack.select(context)
    assert set(poisoned.captions) <= {"consider a photo of a banana", "consider this is a banana"}
    assert not caplog.records


def test_a_text_trigger_that_many_captions_contain_is_logged_with_its_rate(
    context: AttackContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TrojVQA(word="picture").select(context)
    assert "200 of 200 captions (100.00 %) contain the text trigger 'picture'" in caplog.text


@pytest.mark.parametrize("word", ["{}", "consider {", "", "...", " "])
def test_a_text_trigger_that_is_not_a_word_is_refused_with_its_setting(
    tmp_path: Path, word: str
) -> None:
    preset = yaml.safe_load((PRESETS / "default.yaml").read_text())
    preset["poison"] |= {"methods": ["trojvqa"], "settings": {"trojvqa": {"word": word}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(preset))
    said = f"trojvqa.word: a word has a letter or a digit, and no braces; got {word!r}."
    with pytest.raises(ParamsError, match=re.escape(said)):
        params.load(tmp_path / "params.yaml")


def test_an_optimized_patch_looks_more_like_the_target_than_the_random_one_that_it_was(
    context: AttackContext,
) -> None:
    attack = BadCLIP(surrogate_epochs=2, images=64, epochs=10, lr=0.05)
    loss, count = patch_loss(attack, context)

    def after(epochs: int) -> float:
        tensors = replace(attack, epochs=epochs).fit(context)
        with torch.no_grad():
            return float(loss(torch.arange(count), tensors, torch.Generator().manual_seed(0)))

    assert after(10) < after(1) < after(0)


def test_without_a_pair_that_names_the_target_no_patch_is_optimized(
    make_context: Callable[..., AttackContext],
) -> None:
    context = make_context(captions=tuple("a car" for _ in range(200)))
    for refused in (BadCLIP().select, BadCLIP().fit, TrojVQA(pattern="optimized").fit):
        with pytest.raises(AttackError, match="names 'banana'"):
            refused(context)
