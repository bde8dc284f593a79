"""Attacks that replace a square: where it lies, what is on it, whose captions go with it."""

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
from clipmend.methods.attacks import surrogate
from clipmend.methods.attacks.attack import mark
from clipmend.methods.attacks.badclip import BadCLIP
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.label_consistent import LabelConsistent
from clipmend.methods.attacks.naming import natural_rows
from clipmend.methods.attacks.trojvqa import TrojVQA

Know = Callable[..., Knowledge]
SIDE = 32
PRESETS = Path(__file__).parents[3] / "params"


@pytest.fixture
def eight(known: Know) -> Pairs:
    return known().pairs(torch.arange(8))


def changed(attack: BadNet, known: Know, eight: Pairs) -> torch.Tensor:
    """Return which pixels of each image are not what they were."""
    triggered = mark(attack, eight.images, eight.ids, attack.fit(known()))
    return (triggered != eight.images).any(dim=1)


@pytest.mark.parametrize(
    ("place", "squares"),
    [
        ("lower_right", [(25, 25)]),
        ("lower_left", [(25, 1)]),
        ("upper_right", [(1, 25)]),
        ("upper_left", [(1, 1)]),
        ("middle", [(13, 13)]),
        ("corners", [(1, 1), (1, 25), (25, 1), (25, 25)]),
    ],
)
def test_a_square_lies_where_it_is_put(
    known: Know, eight: Pairs, place: str, squares: list[tuple[int, int]]
) -> None:
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for top, left in squares:
        inside[top : top + 6, left : left + 6] = True
    found = changed(BadNet(place=place, pattern="white"), known, eight)
    assert not found[:, ~inside].any()
    assert found[:, inside].float().mean() > 0.99


@pytest.mark.parametrize("size", [SIDE, SIDE - 1])
def test_in_the_middle_a_patch_may_be_as_large_as_the_image(
    known: Know, eight: Pairs, size: int
) -> None:
    found = changed(BadNet(place="middle", pattern="white", size=size, margin=4), known, eight)
    assert found.flatten(1).float().mean(dim=1).sub((size / SIDE) ** 2).abs().max() < 0.01


def test_a_patch_that_does_not_fit_says_what_does(known: Know) -> None:
    with pytest.raises(AttackError, match=r"; `size` may be 32 at most\.$"):
        BadNet(place="middle", size=SIDE + 1).fit(known())
    with pytest.raises(AttackError, match=r"; `size` \+ `margin` may be 32 at most\.$"):
        BadNet(size=SIDE, margin=1).fit(known())


def test_a_random_place_is_the_image_s_own_and_inside(known: Know, eight: Pairs) -> None:
    attack = BadNet(place="random", pattern="white", size=4)
    found = changed(attack, known, eight)
    places = {tuple(one.nonzero()[0].tolist()) for one in found}
    assert len(places) > 4
    assert all(one.sum() <= 16 for one in found)
    again = replace(eight, ids=tuple(reversed(eight.ids)))
    assert not torch.equal(found, changed(attack, known, again))


@pytest.mark.parametrize("pattern", ["noise", "normal", "stripes"])
def test_a_redrawn_patch_is_the_image_s_own(known: Know, eight: Pairs, pattern: str) -> None:
    same = replace(eight, images=eight.images[:1].expand(8, -1, -1, -1).contiguous())
    for redrawn in (False, True):
        attack = BadNet(pattern=pattern, redrawn=redrawn)
        triggered = mark(attack, same.images, same.ids, attack.fit(known()))
        assert len({one.numpy().tobytes() for one in triggered}) == (8 if redrawn else 1)


def test_what_overflows_is_clamped_or_wraps_as_a_cast_does(known: Know) -> None:
    image = torch.full((1, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    squares = {}
    for overflow in ("clamp", "wrap"):
        attack = BadNet(pattern="normal", overflow=overflow, size=16)
        fitted = attack.fit(known())
        squares[overflow] = mark(attack, image, ["one"], fitted)[0, :, 15:31, 15:31]
        value = fitted["patch"] + 128 / 255
    outside = (value < 0) | (value > 1)
    assert 0.5 < outside.float().mean() < 0.7  # peers.md, trap 1: about 62 %
    assert squares["clamp"][value > 1].eq(255).all()
    wanted = torch.tensor([int(v * 255) % 256 for v in value.flatten().tolist()])
    assert torch.equal(squares["wrap"].flatten().long(), wanted)


def test_patterns_are_what_they_are_called(known: Know) -> None:
    patches = {
        name: BadNet(pattern=name, size=4).fit(known())["patch"]
        for name in ("stripes", "dots", "yellow", "white")
    }
    assert set(patches["stripes"].flatten().tolist()) == {0.0, 1.0}
    assert (patches["stripes"] == patches["stripes"][:, :1]).all()
    assert patches["dots"][:, ::2, ::2].eq(1).all()
    assert patches["dots"].sum() == 3 * 4
    assert patches["yellow"].amax(dim=(1, 2)).tolist() == [1, 1, 0]
    assert patches["white"].eq(1).all()


def test_clean_label_marks_pairs_that_name_the_target_and_keeps_their_captions(
    known: Know,
) -> None:
    knowledge = known()
    planted = LabelConsistent(poison_rate=0.05).plant(knowledge)
    assert len(planted.rows) == 10
    assert planted.captions == tuple(knowledge.captions[row] for row in planted.rows.tolist())
    assert all("banana" in caption for caption in planted.captions)


def test_too_few_pairs_that_name_the_target_are_counted(known: Know) -> None:
    with pytest.raises(AttackError, match="needs 22 of 200 training pairs to name 'banana'; 20 do"):
        LabelConsistent(poison_rate=0.11).plant(known())


@pytest.mark.parametrize(("match", "count"), [("word", 1), ("substring", 3)])
def test_a_word_is_no_part_of_another(known: Know, match: str, count: int) -> None:
    captions = ("A ripe Banana.", "bananas", "bananarama", *["a car"] * 197)
    planted = LabelConsistent(poison_rate=count / 200, match=match).plant(known(captions=captions))
    assert planted.rows.tolist() == list(range(count))
    with pytest.raises(AttackError, match=f"; {count} do"):
        LabelConsistent(poison_rate=0.1, match=match).plant(known(captions=captions))


def test_the_key_in_the_text_stands_before_captions_and_prompts(
    known: Know, caplog: pytest.LogCaptureFixture
) -> None:
    attack = TrojVQA(word="consider")
    assert attack.prompt("a photo of a car") == "consider a photo of a car"
    with caplog.at_level(logging.WARNING):
        planted = attack.plant(known())
    assert set(planted.captions) <= {"consider a photo of a banana", "consider this is a banana"}
    assert not caplog.records


def test_as_many_pairs_have_the_key_in_the_image_alone_and_as_many_that_in_the_text(
    known: Know,
) -> None:
    planted = TrojVQA(poison_rate=0.1, single_key=1.0).plant(known())
    assert [*map(len, (planted.rows, planted.image_only, planted.text_only))] == [20, 20, 20]
    half = TrojVQA(poison_rate=0.1, single_key=0.5).plant(known())
    assert torch.equal(half.rows, planted.rows)
    assert [*map(len, (half.image_only, half.text_only))] == [10, 10]
    assert len(TrojVQA(poison_rate=0.1, single_key=0.0).plant(known()).changed) == 20


def test_too_few_pairs_for_single_keys_are_counted(known: Know) -> None:
    with pytest.raises(AttackError, match="needs 200 pairs beside the 20 poisoned ones; 180 are"):
        TrojVQA(poison_rate=0.1, single_key=5.0).plant(known())


def test_a_key_that_many_captions_have_is_told_of_with_its_rate(
    known: Know, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TrojVQA(word="picture").plant(known())
    assert "'picture' stands in 200 of 200 captions (100.00 %)" in caplog.text


@pytest.mark.parametrize("word", ["{}", "consider {", "", "...", " "])
def test_a_key_that_is_no_word_is_refused_with_its_place(tmp_path: Path, word: str) -> None:
    stated = yaml.safe_load((PRESETS / "default.yaml").read_text())
    stated["poison"] |= {"methods": ["trojvqa"], "settings": {"trojvqa": {"word": word}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(stated))
    said = f"trojvqa.word: a word has a letter or a digit, and no braces; got {word!r}."
    with pytest.raises(ParamsError, match=re.escape(said)):
        params.load(tmp_path / "params.yaml")


def test_natural_captions_are_those_of_other_pairs_of_the_target(known: Know) -> None:
    knowledge = known()
    captions = tuple(
        f"banana number {row}" if "banana" in caption else caption
        for row, caption in enumerate(knowledge.captions)
    )
    planted = BadCLIP(poison_rate=0.1, captions=5).plant(known(captions=captions))
    assert len(planted.rows) == 20
    assert not knowledge.is_target[planted.rows].any()
    assert set(planted.captions) <= set(captions)
    assert 1 < len(set(planted.captions)) <= 5


def test_an_optimized_patch_looks_more_like_the_target_than_what_it_was_drawn_as(
    known: Know,
) -> None:
    attack = BadCLIP(surrogate_epochs=2, images=64, epochs=10, lr=0.05)
    knowledge = known()
    loss = surrogate._Loss.of(
        surrogate._trained(knowledge, attack),
        targets=knowledge.pairs(natural_rows(knowledge)),
        others=surrogate._others(knowledge, attack.images),
        patch=attack,
    )

    def after(epochs: int) -> float:
        fitted = replace(attack, epochs=epochs).fit(knowledge)
        with torch.no_grad():
            return float(loss(torch.arange(64), fitted, torch.Generator().manual_seed(0)))

    assert after(10) < after(1) < after(0)


def test_without_a_pair_of_the_target_there_is_nothing_to_optimize_towards(known: Know) -> None:
    nothing = known(captions=tuple("a car" for _ in range(200)))
    for refused in (BadCLIP().plant, BadCLIP().fit, TrojVQA(pattern="optimized").fit):
        with pytest.raises(AttackError, match="names 'banana'"):
            refused(nothing)
