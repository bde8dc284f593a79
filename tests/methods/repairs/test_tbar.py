"""TBAR: the choice of suspects, the subtraction, and its effect on planted suspects."""

import logging
from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.tbar import TBAR, TaskLoss, most_suspect, negated, normal_rows
from clipmend.metrics.scores import Scores
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, fit_all


@pytest.fixture(scope="module")
def pairs(tiny_pairs: Pairs) -> Pairs:
    return tiny_pairs


@pytest.fixture
def victim(tiny_model: Callable[[str, int], Clip]) -> Clip:
    return tiny_model("resnet", 0)


def assets_of(victim: Clip, pairs: Pairs, score: Tensor, suspects: Tensor) -> Assets:
    return Assets(victim, train=lambda: pairs, scores=lambda: Scores(score, suspects))


def test_the_suspects_are_the_marked_pairs_with_the_highest_scores() -> None:
    score = torch.tensor([0.9, 0.1, 0.8, 0.7, 0.95, 0.2])
    marked = Scores(score, torch.tensor([0, 1, 3, 5]))
    assert most_suspect(marked, 2).tolist() == [0, 3]
    assert most_suspect(marked, 9).tolist() == [0, 1, 3, 5]
    assert normal_rows(marked, torch.tensor([1, 3]), 0.5).tolist() == [5]
    assert normal_rows(marked, torch.tensor([0]), 1.0).tolist() == [1, 5, 3, 2, 4]


def test_the_repaired_model_is_the_victim_minus_the_change(
    victim: Clip, tiny_model: Callable[[str, int], Clip]
) -> None:
    tuned = tiny_model("resnet", 1)
    for value in tuned.net.buffers():
        value.add_(1)
    repaired = negated(victim, tuned, scale=0.5)
    named = zip(victim.net.named_parameters(), tuned.net.parameters(), strict=True)
    for (name, before), after in named:
        expected = before - 0.5 * (after - before)
        assert torch.allclose(repaired.net.get_parameter(name), expected, atol=1e-6), name
    for name, value in victim.net.named_buffers():
        assert torch.equal(repaired.net.get_buffer(name), value), name


@torch.no_grad()
def test_the_loss_is_the_suspects_similarity_and_the_normal_pairs_loss(
    victim: Clip, pairs: Pairs
) -> None:
    tokens = victim.tokenize(pairs.captions)
    batch = Batch(torch.arange(8), pairs.images[:8], tokens[:8])
    normal = pairs.take(torch.arange(20, 40))
    loss = TaskLoss(normal, tokens[20:40], weight=0.25)
    computed = loss(victim, batch, torch.Generator().manual_seed(3))
    rows = torch.randint(20, (8,), generator=torch.Generator().manual_seed(3))
    sampled = Batch(rows, normal.images[rows], tokens[20:40][rows])
    cosines = similarity(victim, pairs.take(torch.arange(8)))
    expected = 0.25 * multimodal(victim, sampled, torch.Generator()) - cosines.mean()
    assert float(computed) == pytest.approx(float(expected), abs=1e-5)


def test_suspects_lose_their_captions_and_others_keep_theirs(victim: Clip, pairs: Pairs) -> None:
    score = torch.zeros(64)
    score[:8] = 1
    rows = torch.arange(8)
    settings = {"pairs": 8, "batch_size": 8, "epochs": 12, "lr": 1e-4, "scale": 2.0}
    before = similarity(victim, pairs)
    repair = TBAR(**settings)  # type: ignore[arg-type]
    assets = assets_of(victim, pairs, score, rows)
    fit_all(victim, repair.tasks(assets, torch.Generator()), torch.Generator().manual_seed(0))
    change: Float[Tensor, " samples"] = similarity(victim, pairs) - before
    assert float(change[:8].mean()) < -0.2
    assert float(change[:8].mean()) < float(change[8:].mean()) - 0.05


def test_without_two_suspects_the_model_is_unchanged(
    victim: Clip, pairs: Pairs, caplog: pytest.LogCaptureFixture
) -> None:
    assets = assets_of(victim, pairs, torch.zeros(64), torch.tensor([3]))
    with caplog.at_level(logging.WARNING):
        assert list(TBAR().tasks(assets, torch.Generator())) == []
    assert "ubt marks fewer than 2 suspects; the model is unchanged" in caplog.text


def test_without_a_normal_pair_it_is_refused(victim: Clip, pairs: Pairs) -> None:
    assets = assets_of(victim, pairs, torch.arange(64.0), torch.arange(64))
    with pytest.raises(TrainingError, match=r"normal_share 0\.5 of 64 pairs leaves no normal pair"):
        next(TBAR(pairs=64).tasks(assets, torch.Generator()))
