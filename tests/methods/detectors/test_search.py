"""The search for neighbors: in a streamed reference set, or approximately in all pairs."""

import logging
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.engine.schema import declaration
from clipmend.methods.interfaces import Assets
from clipmend.methods.table import create, reference
from clipmend.metrics.neighbors import reference_of
from clipmend.model.clip import embed_images, load
from clipmend.model.fit import Hooks


@pytest.fixture(scope="module")
def train(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "train")


@pytest.fixture(scope="module")
def assets(victim: Input, train: Pairs) -> Assets:
    return Assets(load(victim.folder), train=lambda: train)


def score(assets: Assets, detector: str, **settings: Any) -> torch.Tensor:
    method = create("detect", detector, settings)
    return method(assets, stream(0, "detect"), Hooks(label="here")).score


@pytest.mark.parametrize("detector", ["k_distance", "slof", "lid", "dao"])
def test_streamed_scores_equal_those_of_embeddings_in_memory(
    assets: Assets, train: Pairs, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmend.methods.detectors.local._BLOCK", 100)
    computed = score(assets, detector, reference=50, neighbors=8)
    embeds = embed_images(assets.model, train.images)
    method = create("detect", detector, {"neighbors": 8})
    expected = torch.cat(
        list(method.scores([embeds], reference_of(embeds, 50, stream(0, "detect"))))
    )
    assert torch.allclose(computed, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detector", ["k_distance", "slof", "lid", "dao"])
def test_a_reference_set_of_one_pair_is_refused(detector: str) -> None:
    settings = declaration(*reference("detect", detector))
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        settings.model_validate({"reference": 1})


def test_a_forest_of_a_reference_set_scores_all_pairs(assets: Assets, train: Pairs) -> None:
    computed = score(assets, "isolation_forest", reference=50)
    assert computed.shape == (len(train),)
    everything = score(assets, "isolation_forest")
    assert not torch.equal(computed, everything)
    assert torch.corrcoef(torch.stack([computed, everything]))[0, 1] > 0.8


@pytest.mark.parametrize("detector", ["k_distance", "slof", "lid", "dao"])
def test_an_approximate_search_of_every_cell_equals_the_exact_one(
    assets: Assets, detector: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("faiss", reason="the extra `ann` is not installed")
    exact = score(assets, detector, neighbors=8)
    with caplog.at_level(logging.INFO, logger="clipmend"):
        computed = score(assets, detector, neighbors=8, search="approximate", probes=256)
    assert torch.allclose(computed, exact, rtol=1e-2, atol=1e-3)
    assert "here: recall@8 of the approximate search is 1.0000" in caplog.messages
