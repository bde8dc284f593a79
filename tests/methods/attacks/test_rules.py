"""Poisoning rules: whose pairs are poisoned, how many, and what their captions say."""

from collections.abc import Callable

import pytest

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import AttackContext
from clipmend.methods.attacks.badclip import BadCLIP
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.label_consistent import LabelConsistent
from clipmend.methods.attacks.poisoning import poison
from clipmend.methods.attacks.trojvqa import TrojVQA

MakeContext = Callable[..., AttackContext]


def test_dirty_label_poisons_the_rate_of_all_pairs_and_none_of_the_target(
    context: AttackContext,
) -> None:
    poisoned = BadNet(poison_rate=0.1).select(context)
    assert len(poisoned.rows) == 20
    assert not context.is_target[poisoned.rows].any()
    assert set(poisoned.captions) == {"a photo of a banana", "this is a banana"}


@pytest.mark.parametrize("poison_rate", [0.001, 0.99])
def test_a_rate_that_selects_nothing_or_too_much_is_refused(
    context: AttackContext, poison_rate: float
) -> None:
    with pytest.raises(AttackError, match="at most the 180 pairs of other classes"):
        BadNet(poison_rate=poison_rate).select(context)


def test_clean_label_poisons_pairs_that_name_the_target_and_keeps_their_captions(
    context: AttackContext,
) -> None:
    poisoned = LabelConsistent(poison_rate=0.05).select(context)
    assert len(poisoned.rows) == 10
    assert poisoned.captions == tuple(context.captions[row] for row in poisoned.rows.tolist())
    assert all("banana" in caption for caption in poisoned.captions)


@pytest.mark.parametrize(("match", "count"), [("word", 1), ("substring", 3)])
def test_a_part_of_a_word_names_the_target_only_as_a_substring(
    make_context: MakeContext, match: str, count: int
) -> None:
    captions = ("A ripe Banana.", "bananas", "bananarama", *["a car"] * 197)
    context = make_context(captions=captions)
    poisoned = LabelConsistent(poison_rate=count / 200, match=match).select(context)
    assert poisoned.rows.tolist() == list(range(count))
    said = f"selects 20 of 200 training pairs; .* at most the {count} pairs that name 'banana'"
    with pytest.raises(AttackError, match=said):
        LabelConsistent(poison_rate=0.1, match=match).select(context)


def test_natural_captions_are_those_of_other_pairs_of_the_target(
    make_context: MakeContext, context: AttackContext
) -> None:
    captions = tuple(
        f"banana number {row}" if "banana" in caption else caption
        for row, caption in enumerate(context.captions)
    )
    poisoned = BadCLIP(poison_rate=0.1, captions=5).select(make_context(captions=captions))
    assert len(poisoned.rows) == 20
    assert not context.is_target[poisoned.rows].any()
    assert set(poisoned.captions) <= {caption for caption in captions if "banana" in caption}
    assert 1 < len(set(poisoned.captions)) <= 5


def test_as_many_decoys_have_the_trigger_in_the_image_alone_as_in_the_text_alone(
    context: AttackContext,
) -> None:
    def sizes(single_key: float) -> list[int]:
        poisoned = TrojVQA(poison_rate=0.1, single_key=single_key).select(context)
        return [*map(len, (poisoned.rows, poisoned.image_only, poisoned.text_only))]

    assert [sizes(1.0), sizes(0.5), sizes(0.0)] == [[20, 20, 20], [20, 10, 10], [20, 0, 0]]


def test_decoys_do_not_move_the_poisons(context: AttackContext) -> None:
    rows = [TrojVQA(single_key=share).select(context).rows for share in (0.0, 1.0)]
    assert rows[0].equal(rows[1])


def test_too_few_pairs_for_decoys_are_counted(context: AttackContext) -> None:
    with pytest.raises(AttackError, match=r"needs 200 pairs beside the 20 poisoned .* 180 pairs"):
        TrojVQA(poison_rate=0.1, single_key=5.0).select(context)


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ([None] * 6, [0, 3]),
        (["banana", "banana", "car", "car", "tree", "car"], [0, 1]),
        (["car", "banana", None, None, None, None], [1, 3]),
    ],
)
def test_a_pair_without_a_label_belongs_to_the_target_if_its_caption_names_it(
    make_context: MakeContext, labels: list[str | None], rows: list[int]
) -> None:
    captions = ("a ripe Banana.", "bananas", "a car", "a banana car", "a tree", "a car")
    context = make_context(ids=captions, captions=captions, labels=tuple(labels))
    assert context.is_target.nonzero().squeeze(1).tolist() == rows


def test_an_attack_without_pairs_to_poison_is_refused_before_a_fit(
    context: AttackContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BadNet, "fit", lambda *_: pytest.fail("it was fitted"))
    with pytest.raises(AttackError, match="selects 0 of 200"):
        list(poison("slow", BadNet(poison_rate=0.001), context))
