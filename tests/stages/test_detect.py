"""Detection: every detector in the table scores every pair, or the model."""

import json
from math import nan
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from clipmend.data import streaming
from clipmend.data.splits import load_split
from clipmend.errors import MetricError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.detectors.ubt import agreement
from clipmend.methods.interfaces import ModelScore
from clipmend.methods.table import METHODS, scores_of
from clipmend.model.clip import load

DETECTORS = METHODS["detect"]

# What makes the costly ones cheap; all others are called with their defaults.
CHEAP: dict[str, dict[str, Any]] = {
    "cognitive_distillation": {"steps": 3},
    "decree": {"images": 32, "starts": 1, "epochs": 2},
    "pud": {"epochs": 2},
}


def scoring(kind):
    return [name for name in DETECTORS if scores_of(name) == kind]


@pytest.mark.parametrize("detector", scoring("pairs"))
def test_every_pair_has_a_finite_score(world, corpus, attacked, detector) -> None:
    made = world.run(f"detect/contract/{detector}", detector, attacked, CHEAP.get(detector, {}))
    scores = pq.read_table(made.folder / "scores.parquet")
    train = pq.read_table(corpus.folder / "train.parquet", columns=["id"])
    assert scores["id"].to_pylist() == train["id"].to_pylist()
    assert np.isfinite(scores["score"].to_numpy()).all()
    assert scores["score"].to_numpy().dtype == np.float32


@pytest.mark.parametrize("detector", scoring("model"))
def test_a_model_score_defines_its_numbers_and_names_the_one_that_decides(
    world, attacked, detector
) -> None:
    few = CHEAP.get(detector, {})
    made = world.run(f"detect/contract/{detector}", detector, attacked, few)
    text = (made.folder / "model_score.json").read_text()
    stated = json.loads(text)
    assert not (made.folder / "scores.parquet").exists()
    assert isinstance(stated["is_backdoored"], bool)
    assert stated["statistic"] in stated["numbers"]
    assert stated["numbers"].keys() == stated["definitions"].keys()
    assert all(np.isfinite(value) for value in stated["numbers"].values())
    assert stated["n_images"] > 0
    again = world.run(f"detect/contract/again/{detector}", detector, attacked, few)
    second = (again.folder / "model_score.json").read_text()
    assert second.replace("contract/again/", "contract/") == text
    for name in ("evidence.safetensors", "evidence.png"):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


@pytest.mark.parametrize("detector", scoring("inputs"))
def test_a_detector_of_inputs_scores_clean_and_triggered_images_by_a_threshold_of_trusted_ones(
    world, corpus, attacked, detector
) -> None:
    settings = {"images": 40, "false_positive_rate": 0.1}
    made = world.run(f"detect/tiny/badnet/mmcl/seed0/{detector}", detector, attacked, settings)
    table = pq.read_table(made.folder / "input_scores.parquet")
    rows = table.to_pandas()
    assert [path.name for path in made.folder.iterdir()] == ["input_scores.parquet"]
    assert np.isfinite(rows["score"]).all()
    assert rows["score"].dtype == np.float32
    trusted, clean = rows[rows["split"] == "trusted"], rows[rows["split"] == "val"]
    # Half of the 64 trusted images: the other half is the detector's own.
    assert len(trusted) == 32
    assert trusted["flagged"].sum() <= 4
    assert rows["flagged"].equals(rows["score"] > rows["score"][~rows["flagged"]].max())
    val = pq.read_table(corpus.folder / "val.parquet", columns=["id", "label"]).to_pandas()
    label = val.set_index("id")["label"]
    plain, attack = (clean[clean["trigger"] == name] for name in ("", "badnet"))
    assert len(plain) == 40
    others = plain["id"][(label[plain["id"]] != "banana").to_numpy()]
    assert list(attack["id"]) == list(others)
    again = world.run(f"detect/again/badnet/mmcl/seed0/{detector}", detector, attacked, settings)
    assert (again.folder / "input_scores.parquet").read_bytes() == (
        made.folder / "input_scores.parquet"
    ).read_bytes()


def test_a_model_score_that_is_not_finite_is_refused(world, attacked, monkeypatch) -> None:
    lost = ModelScore(False, False, "share", 0.1, {"share": nan}, {"share": "Of nothing."}, 1)
    monkeypatch.setattr("clipmend.stages.detect.create", lambda *_: lambda *_: lost)
    with pytest.raises(MetricError, match="share is not finite"):
        world.run("detect/contract/lost", "decree", attacked)
    assert not (world.root / "results/detect/contract/lost/model_score.json").exists()


@pytest.mark.parametrize("detector", ["clip_score", "ubt", "k_distance", "lid", "dao"])
def test_a_split_read_lazily_has_the_scores_of_the_decoded_one(
    world, attacked, detector, monkeypatch
) -> None:
    settings = {"reference": 100} if detector in ("k_distance", "lid", "dao") else {}
    whole = world.run(f"detect/decoded/{detector}", detector, attacked, settings)
    monkeypatch.setattr(streaming, "_DECODED", 0)
    left = world.run(f"detect/left/{detector}", detector, attacked, settings)
    for path in whole.folder.iterdir():
        assert (left.folder / path.name).read_bytes() == path.read_bytes()


def test_ubt_suspects_are_the_least_similar_before_and_rank_above_every_other_pair(scored) -> None:
    rows = pq.read_table(scored.folder / "scores.parquet").to_pandas()
    suspects, others = rows[rows["suspect"]], rows[~rows["suspect"]]
    assert len(suspects) == round(0.2 * len(rows))
    assert suspects["similarity_before"].max() <= others["similarity_before"].min()
    assert suspects["score"].min() > others["score"].max()


def test_ubt_saves_its_overfitted_model_in_which_the_suspects_are_more_similar(
    scored, victim, corpus, poison
) -> None:
    train = load_split(corpus.folder, "train", overlay=poison.folder / "overlay.parquet")
    rows = pq.read_table(scored.folder / "scores.parquet").to_pandas()
    suspect, after = rows["suspect"].to_numpy(), rows["similarity_after"].to_numpy()
    overfitted = similarity(load(scored.folder, "overfitted.safetensors"), train)
    np.testing.assert_allclose(overfitted.numpy(), after, atol=1e-6)
    finished = similarity(load(victim.folder), train).numpy()
    assert after[suspect].mean() > finished[suspect].mean()


def test_the_agreement_does_not_depend_on_the_block_size(monkeypatch) -> None:
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
