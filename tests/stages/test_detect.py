"""Detection: every detector in the table scores every pair, or the model."""

import json
from importlib import import_module
from typing import Any, get_type_hints

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from clipmend.data import streaming
from clipmend.data.splits import load_split
from clipmend.engine.job import Input
from clipmend.errors import MetricError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.detectors.ubt import agreement
from clipmend.methods.interfaces import ModelScore, PairScores
from clipmend.methods.table import METHODS, reference, scores_model
from clipmend.model.clip import load

MODEL_DETECTORS = [name for name in METHODS["detect"] if scores_model(name)]
SCORING = [name for name in METHODS["detect"] if not scores_model(name)]

# What makes the costly ones cheap; all others are called with their defaults.
CHEAP: dict[str, dict[str, Any]] = {
    "cognitive_distillation": {"steps": 3},
    "decree": {"images": 32, "starts": 1, "epochs": 2},
    "pud": {"epochs": 2},
}


@pytest.mark.parametrize("detector", SCORING)
def test_every_pair_has_a_finite_score(
    world: Any, corpus: Input, poison: Input, victim: Input, detector: str
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    settings = CHEAP.get(detector, {})
    made = world.run(f"detect/contract/{detector}", detector, inputs, settings=settings)
    scores = pq.read_table(made.folder / "scores.parquet")
    train = pq.read_table(corpus.folder / "train.parquet", columns=["id"])
    assert scores["id"].to_pylist() == train["id"].to_pylist()
    assert np.isfinite(scores["score"].to_numpy()).all()
    assert scores["score"].to_numpy().dtype == np.float32


@pytest.mark.parametrize("detector", MODEL_DETECTORS)
def test_a_model_score_defines_its_numbers_and_names_the_one_that_decides(
    world: Any, corpus: Input, poison: Input, victim: Input, detector: str
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    few = CHEAP.get(detector, {})
    made = world.run(f"detect/contract/{detector}", detector, inputs, few)
    text = (made.folder / "model_score.json").read_text()
    stated = json.loads(text)
    assert not (made.folder / "scores.parquet").exists()
    assert isinstance(stated["is_backdoored"], bool)
    assert stated["statistic"] in stated["numbers"]
    assert stated["numbers"].keys() == stated["definitions"].keys()
    assert all(np.isfinite(value) for value in stated["numbers"].values())
    assert stated["n_images"] > 0
    again = world.run(f"detect/contract/again/{detector}", detector, inputs, few)
    second = (again.folder / "model_score.json").read_text()
    assert second.replace("contract/again/", "contract/") == text
    for name in ("evidence.safetensors", "evidence.png"):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_a_model_score_that_is_not_finite_is_refused(
    world: Any, corpus: Input, poison: Input, victim: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ModelScore(
        is_backdoored=False,
        found=False,
        statistic="share",
        threshold=0.1,
        numbers={"share": float("nan")},
        definitions={"share": "Of nothing."},
        n_images=1,
    )
    monkeypatch.setattr("clipmend.stages.detect.create", lambda *_: lambda *_: lost)
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    with pytest.raises(MetricError, match="share is not finite"):
        world.run("detect/contract/lost", "decree", inputs)
    assert not (world.root / "results/detect/contract/lost/model_score.json").exists()


@pytest.mark.parametrize("detector", ["clip_score", "ubt", "k_distance", "lid", "dao"])
def test_a_split_read_lazily_has_the_scores_of_the_decoded_one(
    world: Any,
    corpus: Input,
    poison: Input,
    victim: Input,
    detector: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "victim": victim}
    settings = {"reference": 100} if detector in ("k_distance", "lid", "dao") else {}
    whole = world.run(f"detect/decoded/{detector}", detector, inputs, settings=settings)
    monkeypatch.setattr(streaming, "_DECODED", 0)
    left = world.run(f"detect/left/{detector}", detector, inputs, settings=settings)
    for path in whole.folder.iterdir():
        assert (left.folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("detector", METHODS["detect"])
def test_the_table_agrees_with_what_a_detector_returns(detector: str) -> None:
    module, name = reference("detect", detector)
    returned = get_type_hints(getattr(import_module(module), name).__call__)["return"]
    assert returned is (ModelScore if scores_model(detector) else PairScores)


def test_ubt_ranks_every_suspect_above_every_other_pair(scored: Input) -> None:
    table = pq.read_table(scored.folder / "scores.parquet")
    score, suspect = table["score"].to_numpy(), table["suspect"].to_numpy()
    assert 0 < suspect.sum() < len(suspect)
    assert score[suspect].min() > score[~suspect].max()


def test_ubt_suspects_are_the_least_similar_before(scored: Input) -> None:
    table = pq.read_table(scored.folder / "scores.parquet")
    before, suspect = table["similarity_before"].to_numpy(), table["suspect"].to_numpy()
    assert suspect.sum() == round(0.2 * len(suspect))
    assert before[suspect].max() <= before[~suspect].min()


def test_overfitting_raises_the_similarity_of_the_suspects(
    scored: Input, victim: Input, corpus: Input, poison: Input
) -> None:

    train = load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")
    table = pq.read_table(scored.folder / "scores.parquet")
    suspect = torch.from_numpy(table["suspect"].to_numpy().copy())
    finished = similarity(load(victim.folder), train)
    after = torch.from_numpy(table["similarity_after"].to_numpy().copy())
    assert after[suspect].mean() > finished[suspect].mean()


def test_ubt_saves_its_overfitted_model(scored: Input, victim: Input) -> None:
    made, had = load(scored.folder, "overfitted.safetensors"), load(victim.folder)
    changed = [
        name
        for name, value in made.full_state().items()
        if not torch.equal(value, had.full_state()[name])
    ]
    assert changed


def test_the_agreement_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 40, 8, generator=draw), dim=2)
    whole = agreement(images, texts, 5)
    monkeypatch.setattr("clipmend.methods.detectors.ubt._CELLS", 40 * 7)
    assert torch.allclose(agreement(images, texts, 5), whole, atol=1e-6)


def test_the_agreement_is_the_mean_product_of_cosines_over_the_nearest_images() -> None:
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    same = torch.ones(4, 1)
    assert agreement(images, same, 1).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert agreement(images, same, 2).tolist() == [0.5, 0.5, 0.0, -0.5]
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert agreement(images, other, 1).tolist()[:2] == [0.0, 0.0]
