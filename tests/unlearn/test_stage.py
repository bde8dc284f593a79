"""Unlearning: same loss, other pairs; the text tower stands still; the tokens are the target's."""

import csv
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from clipmend.clip.model import build, embed_images, embed_texts, load
from clipmend.corpus.pairs import OVERLAY, read_pairs
from clipmend.job import Input
from clipmend.methods import METHODS, create
from clipmend.unlearn.tokens import telling_words

FEW = {"pairs": 16, "epochs": 16, "batch_size": 8, "lr": 1e-4}


@pytest.fixture(scope="module")
def inputs(corpus: Input, poison: Input, victim: Input, scored: Input) -> dict[str, Input]:
    return {"corpus": corpus, "poison": poison, "victim": victim, "detector": scored}


@pytest.mark.parametrize("choose", ["suspects", "random", "oracle"])
@pytest.mark.parametrize("unlearner", METHODS["unlearn"])
def test_an_unlearner_lowers_its_loss_and_keeps_the_shapes(
    world: Any, inputs: dict[str, Input], victim: Input, unlearner: str, choose: str
) -> None:
    settings = {**FEW, "choose": choose}
    made = world.run(f"unlearn/contract/{unlearner}@{choose}", unlearner, inputs, settings)
    losses = [
        float(row["loss"])
        for row in csv.DictReader((made.folder / "curve.csv").read_text().splitlines())
        if row["loss"]
    ]
    assert losses[-1] < losses[0] or losses[0] < 1e-3
    mended, had = load(made.folder).full_state(), load(victim.folder).full_state()
    assert {n: v.shape for n, v in mended.items()} == {n: v.shape for n, v in had.items()}
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


def test_only_the_suspects_are_no_control() -> None:
    controls = {
        choose: create("unlearn", "ubt", {"choose": choose}).control
        for choose in ("suspects", "random", "oracle")
    }
    assert controls == {"suspects": False, "random": True, "oracle": True}


def test_telling_words_are_those_whose_absence_costs_the_most() -> None:
    model = build("scene_resnet", seed=0).eval()
    images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    words = ["one", "big", "boat"]
    embeds = embed_images(model, images)
    left_out = [" ".join(word for word in words if word != absent) for absent in words]
    cosines = (embeds @ embed_texts(model, model.tokenise(left_out)).T).squeeze(0)
    expected = words[int(cosines.argmin())]
    assert telling_words(model, images, ["one big boat"], keep=1) == (expected,)
    assert telling_words(model, images, ["one big boat"], keep=5) == ("one big boat",)
