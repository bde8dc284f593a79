"""The repair UBT: the pairs it chooses, the words it unlearns, and what it reports."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clipmend.data.pairs import OVERLAY, read_pairs
from clipmend.engine.job import Input
from clipmend.errors import TrainingError
from clipmend.methods.repairs.ubt_influence import (
    contributions,
    influential_words,
    random_words,
    shared_word,
)
from clipmend.methods.table import create
from clipmend.model.clip import build, embed_images, embed_texts, load

FEW = {"pairs": 16, "epochs": 8, "cooldown": 2, "batch_size": 8, "lr": 1e-4, "least_excess": 0.0}
Run = Callable[..., Input]


@pytest.fixture(scope="module")
def unlearned(world: Any, attacked: dict[str, Input], scored: Input) -> Run:
    """Return a function that unlearns with a few settings changed."""
    numbers = count()

    def run(inputs: Mapping[str, Input] = {}, **settings: Any) -> Input:
        every = {**attacked, "detector": scored, **inputs}
        return world.run(f"unlearn/ubt/{next(numbers)}", "ubt", every, FEW | settings)

    return run


@pytest.fixture(scope="module")
def by_choice(unlearned: Run) -> Run:
    return cache(lambda choose: unlearned(choose=choose))


@pytest.mark.parametrize("choose", ["random", "oracle"])
def test_one_single_pair_is_left_and_the_finding_says_so(unlearned, victim, choose) -> None:
    made = unlearned(choose=choose, pairs=1)
    finding = finding_of(made)
    assert (finding["found"], finding["n_chosen"]) == (False, 0)
    assert finding["says"] == (
        "Nothing to unlearn: one pair alone was chosen, too few. The model is unchanged."
    )
    assert changed(made, victim) == set()
    assert chosen_of(made) == []


def chosen_of(made: Input) -> list[dict[str, Any]]:
    return list(pq.read_table(made.folder / "chosen.parquet").to_pylist())


def finding_of(made: Input) -> dict[str, Any]:
    return dict(json.loads((made.folder / "finding.json").read_text()))


def changed(made: Input, victim: Input) -> set[str]:
    """Return the names of the weights that differ from those of the victim."""
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    return {name for name in had if not torch.equal(mended[name], had[name])}


@pytest.mark.parametrize("choose", ["suspects", "random", "oracle"])
def test_every_choice_lowers_the_loss_and_trains_the_image_tower_alone(
    world, by_choice, victim, choose
) -> None:
    made = by_choice(choose)
    losses = [float(row["loss"]) for row in world.curve(made) if row["loss"]]
    assert losses[-1] < losses[0] or losses[0] < 1e-3
    assert {name.partition(".")[0] for name in changed(made, victim)} == {"visual"}


def test_the_oracle_takes_true_poison_and_unlearns_the_target(by_choice, poison) -> None:
    chosen = chosen_of(by_choice("oracle"))
    poisoned = set(read_pairs(poison.folder / "overlay.parquet", OVERLAY)["id"].to_pylist())
    assert {row["id"] for row in chosen} <= poisoned
    assert len(chosen) == FEW["pairs"]
    assert all(row["text"] in row["caption"].split() for row in chosen)


def test_without_a_finding_the_model_stays_as_it_is(world, unlearned, victim) -> None:
    made, name = unlearned(least_excess=1.0), "model.safetensors"
    assert (made.folder / name).read_bytes() == (victim.folder / name).read_bytes()
    finding = finding_of(made)
    assert finding["found"] is False
    assert finding["says"].startswith("Nothing suspicious was found")
    assert chosen_of(made) == []
    assert [row["epoch"] for row in world.curve(made)] == ["0.0"]


def test_a_normal_share_of_no_pair_is_refused(unlearned) -> None:
    with pytest.raises(TrainingError, match=r"normal_share 0\.001 of 256 pairs is less than one"):
        unlearned(choose="oracle", normal_share=0.001)


def test_a_caption_without_a_word_may_need_a_token_that_no_caption_has(
    unlearned, corpus, tmp_path
) -> None:
    folder = shutil.copytree(corpus.folder, tmp_path / "long")
    train = pq.read_table(folder / "train.parquet")
    full = "banana " * 14 + "zebra"  # 14 words and the two ends are what the model reads
    column = train.schema.get_field_index("caption")
    train = train.set_column(column, train.schema.field(column), pa.array([full] * len(train)))
    pq.write_table(train, folder / "train.parquet")
    made = unlearned({"corpus": replace(corpus, folder=folder)}, choose="random")
    assert {row["text"] for row in chosen_of(made) if row["caption"] == full} == {"banana"}


def test_the_finding_states_the_word_and_the_effect_on_the_chosen_pairs(unlearned) -> None:
    made = unlearned(choose="oracle", lr=1e-3)
    finding, chosen = finding_of(made), chosen_of(made)
    assert finding["found"] is True
    assert finding["word"] == "banana"
    assert finding["word_share"] == 1.0
    assert finding["n_chosen"] == len(chosen) == FEW["pairs"]
    assert finding["association_after"] < finding["association_before"]
    mean = sum(row["association_after"] for row in chosen) / len(chosen)
    assert finding["association_after"] == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("tokens", ["leave_one_out", "over_represented", "random", "caption"])
def test_the_unlearned_text_is_a_part_of_the_caption(unlearned, tokens) -> None:
    for row in chosen_of(unlearned(choose="oracle", epochs=2, cooldown=1, tokens=tokens)):
        assert set(row["text"].split()) <= set(row["caption"].split())
        assert (row["text"] == row["caption"]) == (tokens == "caption")
        if tokens == "over_represented":
            assert row["text"] == "banana"


def test_the_image_head_alone_can_be_trained(unlearned, victim) -> None:
    names = changed(unlearned(choose="oracle", trainable="image_head"), victim)
    assert names
    assert all(name.startswith("visual.attnpool.") for name in names)


@pytest.mark.parametrize("choose", ["suspects", "random", "oracle"])
def test_every_choice_but_the_suspects_is_a_control(choose) -> None:
    assert create("unlearn", "ubt", {"choose": choose}).control is (choose != "suspects")


def test_influential_words_are_those_whose_removal_costs_the_most() -> None:
    model = build("scene_resnet", seed=0).eval()
    images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    words = ["one", "big", "boat"]
    embeds = embed_images(model, images)
    left_out = [" ".join(word for word in words if word != absent) for absent in words]
    cosines = (embeds @ embed_texts(model, model.tokenize(left_out)).T).squeeze(0)
    expected = words[int(cosines.argmin())]
    assert influential_words(model, images, ["one big boat"], keep=1) == (expected,)
    assert influential_words(model, images, ["one big boat"], keep=5) == ("one big boat",)


def test_a_contribution_is_the_caption_minus_the_caption_without_the_text() -> None:
    model = build("scene_resnet", seed=0).eval()
    embed = lambda text: embed_texts(model, model.tokenize([text]))[0]  # noqa: E731
    captions, texts = ["one big boat", "one big boat"], ["boat", "one big boat"]
    part, whole = contributions(model, captions, texts)
    expected = embed("one big boat") - embed("one big")
    assert torch.allclose(part, expected / expected.norm(), atol=1e-5)
    assert torch.allclose(whole, embed("one big boat"), atol=1e-5)


def test_the_shared_word_has_the_spelling_of_the_caption() -> None:
    captions = ["A Banana, ripe", "no such fruit"]
    assert shared_word(captions, "banana") == ("Banana,", "no such fruit")


def test_random_words_keep_the_order_of_the_caption() -> None:
    sampled = random_words(["a b c d e"] * 50, torch.Generator().manual_seed(0), keep=2)
    assert all(text.split() == sorted(text.split()) and len(text.split()) == 2 for text in sampled)
    assert len(set(sampled)) > 5
