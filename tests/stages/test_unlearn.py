"""The repair UBT: the pairs it chooses, the words it unlearns, and what it reports."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
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


@pytest.fixture(scope="module")
def inputs(corpus: Input, poison: Input, victim: Input, scored: Input) -> dict[str, Input]:
    return {"corpus": corpus, "poison": poison, "victim": victim, "detector": scored}


def curve(made: Input) -> list[dict[str, str]]:
    return list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))


@pytest.mark.parametrize("choose", ["suspects", "random", "oracle"])
def test_every_choice_lowers_the_loss_and_trains_the_image_tower_alone(
    world: Any, inputs: dict[str, Input], victim: Input, choose: str
) -> None:
    settings = {**FEW, "choose": choose}
    made = world.run(f"unlearn/choice/ubt@{choose}", "ubt", inputs, settings)
    losses = [float(row["loss"]) for row in curve(made) if row["loss"]]
    assert losses[-1] < losses[0] or losses[0] < 1e-3
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    moved = {name for name in had if not torch.equal(mended[name], had[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)


def test_the_oracle_takes_true_poison_and_unlearns_the_target(
    world: Any, inputs: dict[str, Input], poison: Input
) -> None:
    made = world.run("unlearn/oracle/ubt", "ubt", inputs, {**FEW, "choose": "oracle"})
    chosen = pq.read_table(made.folder / "chosen.parquet").to_pylist()
    poisoned = set(read_pairs(poison.folder / "overlay.parquet", OVERLAY)["id"].to_pylist())
    assert {row["id"] for row in chosen} <= poisoned
    assert len(chosen) == FEW["pairs"]
    assert all(row["text"] in row["caption"].split() for row in chosen)


def test_without_a_finding_the_model_stays_as_it_is(
    world: Any, inputs: dict[str, Input], victim: Input
) -> None:
    made = world.run("unlearn/nothing/ubt", "ubt", inputs, {**FEW, "least_excess": 1.0})
    assert (made.folder / "model.safetensors").read_bytes() == (
        victim.folder / "model.safetensors"
    ).read_bytes()
    finding = json.loads((made.folder / "finding.json").read_text())
    assert finding["found"] is False
    assert finding["says"].startswith("Nothing suspicious was found")
    assert pq.read_table(made.folder / "chosen.parquet").num_rows == 0
    assert [row["epoch"] for row in curve(made)] == ["0.0"]


def test_a_normal_share_of_no_pair_is_refused(world: Any, inputs: dict[str, Input]) -> None:
    settings = {**FEW, "choose": "oracle", "normal_share": 0.001}
    with pytest.raises(TrainingError, match=r"normal_share 0\.001 of 256 pairs is less than one"):
        world.run("unlearn/unheld/ubt", "ubt", inputs, settings)


def test_a_caption_without_a_word_may_need_a_token_that_no_caption_has(
    world: Any, inputs: dict[str, Input], corpus: Input, tmp_path: Path
) -> None:
    folder = shutil.copytree(corpus.folder, tmp_path / "long")
    train = pq.read_table(folder / "train.parquet")
    full = "banana " * 14 + "zebra"  # 14 words and the two ends are what the model reads
    column = train.schema.get_field_index("caption")
    train = train.set_column(column, train.schema.field(column), pa.array([full] * len(train)))
    pq.write_table(train, folder / "train.parquet")
    inputs_here = inputs | {"corpus": replace(corpus, folder=folder)}
    made = world.run("unlearn/long/ubt", "ubt", inputs_here, {**FEW, "choose": "random"})
    chosen = pq.read_table(made.folder / "chosen.parquet").to_pylist()
    assert {row["text"] for row in chosen if row["caption"] == full} == {"banana"}


def test_the_finding_states_the_word_and_the_effect_on_the_chosen_pairs(
    world: Any, inputs: dict[str, Input]
) -> None:
    made = world.run("unlearn/finding/ubt", "ubt", inputs, {**FEW, "choose": "oracle", "lr": 1e-3})
    finding = json.loads((made.folder / "finding.json").read_text())
    chosen = pq.read_table(made.folder / "chosen.parquet").to_pandas()
    assert finding["found"] is True
    assert finding["word"] == "banana"
    assert finding["word_share"] == 1.0
    assert finding["n_chosen"] == len(chosen) == FEW["pairs"]
    assert finding["association_after"] < finding["association_before"]
    assert finding["association_after"] == pytest.approx(
        chosen["association_after"].mean(), abs=1e-6
    )


@pytest.mark.parametrize("tokens", ["leave_one_out", "over_represented", "random", "caption"])
def test_the_unlearned_text_is_a_part_of_the_caption(
    world: Any, inputs: dict[str, Input], tokens: str
) -> None:
    settings = {**FEW, "choose": "oracle", "epochs": 2, "cooldown": 1, "tokens": tokens}
    made = world.run(f"unlearn/tokens/{tokens}", "ubt", inputs, settings)
    for row in pq.read_table(made.folder / "chosen.parquet").to_pylist():
        assert set(row["text"].split()) <= set(row["caption"].split())
        assert (row["text"] == row["caption"]) == (tokens == "caption")
        if tokens == "over_represented":
            assert row["text"] == "banana"


def test_the_image_head_alone_can_be_trained(
    world: Any, inputs: dict[str, Input], victim: Input
) -> None:
    settings = {**FEW, "choose": "oracle", "trainable": "image_head"}
    made = world.run("unlearn/head/ubt", "ubt", inputs, settings)
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    moved = {name for name in had if not torch.equal(mended[name], had[name])}
    assert moved
    assert all(name.startswith("visual.attnpool.") for name in moved)


def test_every_choice_but_the_suspects_is_a_control() -> None:
    controls = {
        choose: create("unlearn", "ubt", {"choose": choose}).control
        for choose in ("suspects", "random", "oracle")
    }
    assert controls == {"suspects": False, "random": True, "oracle": True}


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
