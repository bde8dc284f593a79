"""k-distance, SLOF, LID and DAO against slow implementations, and their search for neighbors."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.engine.schema import declaration
from clipmend.errors import MetricError
from clipmend.methods.detectors.dao import as_published
from clipmend.methods.interfaces import Assets
from clipmend.methods.table import create, reference
from clipmend.metrics.neighbors import reference_of
from clipmend.model.clip import embed_images, embed_texts, load
from clipmend.model.fit import Hooks

K = 8
every_detector = pytest.mark.parametrize("detector", ["k_distance", "slof", "lid", "dao"])


@pytest.fixture(scope="module")
def train(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "train")


@pytest.fixture(scope="module")
def assets(victim: Input, train: Pairs) -> Assets:
    return Assets(load(victim.folder), train=lambda: train)


def score(assets: Assets, detector: str, **settings: Any) -> torch.Tensor:
    method = create("detect", detector, settings)
    return method(assets, stream(0, "detect"), Hooks(label="here")).score


class Slow:
    """Definitions over all pairs, one at a time."""

    def __init__(self, embeds: torch.Tensor) -> None:
        self.distance = torch.cdist(embeds.double(), embeds.double())
        self.distance.fill_diagonal_(torch.inf)

    def near(self, row: int) -> list[int]:
        return self.distance[row].argsort()[:K].tolist()

    def radius(self, row: int) -> float:
        return float(self.distance[row].sort().values[K - 1])

    def lid(self, row: int) -> float:
        radii = self.distance[row].sort().values[:K]
        return float(-1 / (radii / radii[-1]).log().mean())

    def slof(self, row: int) -> float:
        return sum(self.radius(row) / self.radius(other) for other in self.near(row)) / K

    def dao(self, row: int) -> float:
        ratios = torch.tensor([self.radius(row) / self.radius(o) for o in self.near(row)])
        return float((torch.tensor([self.lid(o) for o in self.near(row)]) * ratios.log()).mean())


@pytest.mark.parametrize(
    ("detector", "definition"),
    [("k_distance", Slow.radius), ("slof", Slow.slof), ("lid", Slow.lid), ("dao", Slow.dao)],
)
def test_a_score_is_its_definition(
    assets: Assets, train: Pairs, detector: str, definition: Any
) -> None:
    few = train.take(torch.arange(100))
    computed = score(replace(assets, train=lambda: few), detector, neighbors=K)
    slow = Slow(embed_images(assets.model, few.images))
    expected = torch.tensor([definition(slow, row) for row in range(100)])
    assert torch.allclose(computed, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detector", ["k_distance", "slof", "dao"])
def test_an_image_far_from_all_others_is_the_most_suspect(
    assets: Assets, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = torch.randn(50, 16, generator=stream(0, "test")) * 0.1
    gathered[:, 0] += 1
    gathered[7] = -gathered[7]
    embeds = torch.nn.functional.normalize(gathered, dim=1)
    module = "clipmend.methods.detectors.local.embed_images"
    monkeypatch.setattr(module, lambda *_: embeds)
    few = assets.train().take(torch.arange(50))
    assert score(replace(assets, train=lambda: few), detector, neighbors=K).argmax() == 7


@pytest.fixture
def with_duplicates() -> torch.Tensor:
    """21 images in one place, one beside them, and 100 that are far from these and apart."""
    sampled = torch.randn(122, 16, generator=stream(1, "test"))
    sampled[:22] = sampled[0]
    sampled[21, 0] += 0.3
    return torch.nn.functional.normalize(sampled, dim=1)


@pytest.mark.parametrize(
    ("detector", "at", "beside"), [("lid", 0.1086, None), ("slof", 1.0, 1000.0), ("dao", 0.0, 1.2)]
)
def test_k_duplicates_and_a_neighbor_of_them_have_finite_scores(
    with_duplicates: torch.Tensor, detector: str, at: float, beside: float | None
) -> None:
    method = create("detect", detector, {"neighbors": 16})
    reference = reference_of(with_duplicates, 122, stream(0, "detect"))
    score = torch.cat(list(method.scores([with_duplicates], reference)))
    assert score[:21].tolist() == pytest.approx([at] * 21, abs=1e-4)
    if beside is not None:
        assert float(score[21]) == pytest.approx(beside, abs=0.1)
    if detector == "lid":
        assert float(score[:21].max()) < float(score[22:].min())


def published_slowly(images: torch.Tensor, texts: torch.Tensor, k: int) -> torch.Tensor:
    """Return what the published code does, a pair at a time: leave out, number, look up."""
    points = torch.cat([images, texts]).double()
    full = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    ranked = full.sort(dim=1).values  # the distance of 0 to itself comes first, and stays
    radius = ranked[:, k]
    dimension = -k / (ranked[:, :k] / ranked[:, k : k + 1] + 1e-4).log().sum(dim=1)
    factors = []
    for row in range(len(images)):
        kept = [float(d) for i, d in enumerate(full[row]) if i not in (row, row + len(images))]
        order = sorted(range(len(kept)), key=kept.__getitem__)
        ratios = torch.tensor([kept[order[k]] / float(radius[i]) for i in order[:k]])
        factors.append(float((dimension[order[:k]] * ratios.log()).mean()))
    return torch.tensor(factors)


@pytest.mark.parametrize("n_texts", [0, 40])
def test_the_published_form_computes_what_the_published_code_does(
    n_texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmend.methods.detectors.dao._BLOCK", 7)
    sampled = torch.randn(40 + n_texts, 6, generator=stream(2, "test"))
    images, texts = torch.nn.functional.normalize(sampled, dim=1).split([40, n_texts])
    expected = published_slowly(images, texts, K)
    assert torch.allclose(as_published(images, texts, K), expected, rtol=1e-3, atol=1e-4)


def test_the_published_form_scores_duplicates_1000() -> None:
    assert as_published(torch.ones(12, 3), torch.ones(0, 3), K).tolist() == [1000.0] * 12


def test_the_published_form_refuses_a_batch_that_is_too_small() -> None:
    with pytest.raises(MetricError, match="cannot score a batch of 2"):
        as_published(torch.eye(2), torch.empty(0, 2), K)


@pytest.mark.parametrize("form", ["published", "published_pairs"])
def test_published_batches_are_shuffled_and_no_larger_than_the_reference(
    assets: Assets, train: Pairs, form: str
) -> None:
    few, model = train.take(torch.arange(90)), assets.model
    made = replace(assets, train=lambda: few)
    computed = score(made, "dao", neighbors=K, reference=30, form=form)
    images, texts = embed_images(model, few.images), torch.empty(90, 0)
    if form == "published_pairs":
        texts = embed_texts(model, model.tokenize(few.captions))
    for rows in torch.randperm(90, generator=stream(0, "detect")).split(30):
        batch_texts = texts[rows] if texts.numel() else images[:0]
        expected = published_slowly(images[rows], batch_texts, K)
        assert torch.allclose(computed[rows], expected, rtol=1e-2, atol=1e-3)


@every_detector
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


@every_detector
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


@every_detector
def test_an_approximate_search_of_every_cell_equals_the_exact_one(
    assets: Assets, detector: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("faiss", reason="the extra `ann` is not installed")
    exact = score(assets, detector, neighbors=8)
    with caplog.at_level(logging.INFO, logger="clipmend"):
        computed = score(assets, detector, neighbors=8, search="approximate", probes=256)
    assert torch.allclose(computed, exact, rtol=1e-2, atol=1e-3)
    assert "here: recall@8 of the approximate search is 1.0000" in caplog.messages
