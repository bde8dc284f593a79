"""RoCLIP: its pool, its matching epochs, and plain MMCL in the other epochs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Objective
from clipmend.methods.objectives.bank import Bank
from clipmend.methods.objectives.roclip import MatchingLoss, RoCLIP
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import autoaugment


def unit(*shape: int) -> Tensor:
    sampled = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(sampled, dim=-1)


def test_the_bank_forgets_the_oldest_first() -> None:
    bank, rows = Bank(5, 3), unit(19, 3)
    # The last batch is larger than the bank.
    for start, stop, oldest in [(0, 2, 0), (2, 4, 0), (4, 7, 2), (7, 11, 6), (11, 19, 14)]:
        bank.append(rows[start:stop])
        kept = {tuple(row) for row in bank.held.tolist()}
        assert kept == {tuple(row) for row in rows[oldest:stop].tolist()}


def test_the_nearest_agrees_with_brute_force_and_has_no_gradient() -> None:
    bank, held, queries = Bank(6, 4), unit(6, 4), unit(16, 4)[6:].requires_grad_(True)
    bank.append(held)
    nearest = bank.nearest(queries, otherwise=queries)
    for query, row in zip(queries.detach(), nearest, strict=True):
        distances = [float((query - other).norm()) for other in held]
        assert torch.equal(row, held[distances.index(min(distances))])
    assert not nearest.requires_grad


def test_an_empty_bank_returns_the_fallback() -> None:
    queries, otherwise = unit(4, 3)[:2], unit(4, 3)[2:]
    assert torch.equal(Bank(6, 3).nearest(queries, otherwise), otherwise)


@pytest.fixture
def model(new_model: Callable[[Objective], Clip]) -> Clip:
    return new_model(RoCLIP()).eval()


def batch_of(model: Clip, pairs: Pairs, rows: Tensor) -> Batch:
    return Batch(rows, pairs.images[rows], model.tokenize(pairs.captions)[rows])


def loss_of(model: Clip, pairs: Pairs, *, every: int, epoch: int) -> MatchingLoss:
    task = RoCLIP(every=every, pool=1 / 64).task(model, pairs, stream(0, "views"))
    assert task.before_epoch is not None
    task.before_epoch(model, epoch, stream(0, "epoch"))
    assert isinstance(task.loss, MatchingLoss)
    return task.loss


def embedded(model: Clip, loss: MatchingLoss, pairs: Pairs, rows: Tensor) -> tuple[Tensor, Tensor]:
    images = autoaugment(pairs.images[rows], stream(0, "step"))
    return model.encode_image(images), model.encode_text(loss.text_views[rows])


@pytest.mark.parametrize(("every", "epochs"), [(1, {0, 1, 2, 3, 4}), (2, {1, 3}), (3, {2})])
def test_every_kth_epoch_matches(model: Clip, pairs: Pairs, every: int, epochs: set[int]) -> None:
    matching = {e for e in range(5) if loss_of(model, pairs, every=every, epoch=e).matches}
    assert matching == epochs


def test_other_epochs_are_plain_mmcl_over_augmented_pairs(model: Clip, pairs: Pairs) -> None:
    loss, rows = loss_of(model, pairs, every=2, epoch=0), torch.arange(8)
    loss.bank.append(unit(1, model.config["model_cfg"]["embed_dim"]))
    images, texts = embedded(model, loss, pairs, rows)
    computed = loss(model, batch_of(model, pairs, rows), stream(0, "step"))
    torch.testing.assert_close(computed, mmcl_loss(images, texts, model.logit_scale()))


def test_a_matching_epoch_takes_the_nearest_text_before_adding_its_own(
    model: Clip, pairs: Pairs
) -> None:
    loss, rows = loss_of(model, pairs, every=2, epoch=1), torch.arange(8)
    with torch.no_grad():
        pool = model.encode_text(loss.text_views[20:21])  # all that the pool holds
        loss.bank.append(pool)
        images, texts = embedded(model, loss, pairs, rows)
    expected = mmcl_loss(images, pool.expand(8, -1), model.logit_scale())
    computed = loss(model, batch_of(model, pairs, rows), stream(0, "step"))
    torch.testing.assert_close(computed, expected)
    torch.testing.assert_close(loss.bank.held, texts[-1:])  # the latest is in, the oldest out
    computed.backward()
    assert model.net.get_parameter("text_projection").grad is None


@pytest.mark.parametrize("killed_in", [3, 4, 6])  # of two steps an epoch
def test_a_killed_run_resumes_to_the_same_bytes(
    survives: Callable[[Objective, int], bool], killed_in: int
) -> None:
    objective = RoCLIP(epochs=4, batch_size=16, every=2, pool=0.5)
    assert survives(objective, killed_in)
