"""k-distance, SLOF, LID and DAO against slow implementations of their definitions."""

from typing import Any

import pytest
import torch

from clipmend.data.seeds import stream
from clipmend.data.splits import load_split
from clipmend.engine.job import Input
from clipmend.errors import MetricError
from clipmend.methods.detectors.dao import as_published
from clipmend.methods.interfaces import Assets
from clipmend.methods.table import create
from clipmend.metrics.neighbors import reference_of
from clipmend.model.clip import embed_images, embed_texts, load
from clipmend.model.fit import Hooks

K = 8


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
    corpus: Input, victim: Input, detector: str, definition: Any
) -> None:
    model = load(victim.folder)
    train = load_split(corpus.folder, "train").take(torch.arange(100))
    method = create("detect", detector, {"neighbors": K})
    computed = method(Assets(model, train=lambda: train), stream(0, "detect"), Hooks())
    slow = Slow(embed_images(model, train.images))
    expected = torch.tensor([definition(slow, row) for row in range(100)])
    assert torch.allclose(computed.score, expected.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detector", ["k_distance", "slof", "dao"])
def test_an_image_far_from_all_others_is_the_most_suspect(
    corpus: Input, victim: Input, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_split(corpus.folder, "train").take(torch.arange(50))
    gathered = torch.randn(50, 16, generator=stream(0, "test")) * 0.1
    gathered[:, 0] += 1
    gathered[7] = -gathered[7]
    embeds = torch.nn.functional.normalize(gathered, dim=1)
    module = "clipmend.methods.detectors.local.embed_images"
    monkeypatch.setattr(module, lambda *_: embeds)
    model = load(victim.folder)
    method = create("detect", detector, {"neighbors": K})
    computed = method(Assets(model, train=lambda: train), stream(0, "detect"), Hooks())
    assert int(computed.score.argmax()) == 7


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
    corpus: Input, victim: Input, form: str
) -> None:
    model = load(victim.folder)
    train = load_split(corpus.folder, "train").take(torch.arange(90))
    method = create("detect", "dao", {"neighbors": K, "reference": 30, "form": form})
    computed = method(Assets(model, train=lambda: train), stream(0, "detect"), Hooks())
    images, texts = embed_images(model, train.images), torch.empty(90, 0)
    if form == "published_pairs":
        texts = embed_texts(model, model.tokenize(train.captions))
    for rows in torch.randperm(90, generator=stream(0, "detect")).split(30):
        batch_texts = texts[rows] if texts.numel() else images[:0]
        expected = published_slowly(images[rows], batch_texts, K)
        assert torch.allclose(computed.score[rows], expected, rtol=1e-2, atol=1e-3)
