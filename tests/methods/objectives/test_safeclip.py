"""SafeCLIP: the safe pairs of every epoch, and the losses of safe and risky pairs."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.errors import TrainingError
from clipmend.methods.interfaces import Objective
from clipmend.methods.objectives import safeclip
from clipmend.methods.objectives.safeclip import (
    DividedLoss,
    SafeCLIP,
    probability_of_higher,
    ranked,
)
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import one_way_loss
from clipmend.model.views import autoaugment

SHORT = SafeCLIP(
    epochs=5, batch_size=16, in_modal_epochs=1, least=0.1, growth=0.1, cap=0.6, bank=24
)


def planted(low: int, high: int) -> Tensor:
    """Return cosines of two clusters, the low one first."""
    generator = torch.Generator().manual_seed(0)
    spread = 0.03 * torch.randn(low + high, generator=generator)
    return spread + torch.cat([torch.full((low,), 0.1), torch.full((high,), 0.5)])


def test_the_mixture_separates_two_planted_clusters() -> None:
    probability = probability_of_higher(planted(50, 150))
    assert probability[:50].max() < 0.01
    assert probability[50:].min() > 0.99


def test_equally_probable_pairs_are_ranked_by_cosine() -> None:
    probability = torch.tensor([0.5, 1.0, 1.0, 0.9])
    cosines = torch.tensor([0.9, 0.2, 0.3, 0.1])
    assert ranked(probability, cosines).tolist() == [2, 1, 3, 0]


class Planned:
    """An objective's task, asked epoch by epoch which pairs are safe, under planted cosines."""

    def __init__(
        self,
        objective: SafeCLIP,
        model: Clip,
        pairs: Pairs,
        monkeypatch: pytest.MonkeyPatch,
        cosines: Tensor,
    ) -> None:
        self.model, self.monkeypatch = model, monkeypatch
        self.task = objective.task(model, pairs, stream(0, "views"))
        self.plant(cosines)

    def plant(self, cosines: Tensor) -> None:
        # An image of (cosine, sine) and a text of (1, 0) have that cosine.
        images = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
        texts = torch.tensor([1.0, 0.0]).expand(len(cosines), 2)
        self.monkeypatch.setattr(safeclip, "embed_images", lambda *_: images)
        self.monkeypatch.setattr(safeclip, "embed_texts", lambda *_: texts)

    def safe(self, epoch: int) -> set[int]:
        assert self.task.before_epoch is not None
        assert isinstance(self.task.loss, DividedLoss)
        self.task.before_epoch(self.model, epoch, stream(epoch, "order"))
        return {int(row) for rows, is_safe in self.task.loss._steps if is_safe for row in rows}


@pytest.fixture
def plan(
    pairs: Pairs, new_model: Callable[[Objective], Clip], monkeypatch: pytest.MonkeyPatch
) -> Callable[[SafeCLIP, Tensor], Planned]:
    return lambda objective, cosines: Planned(
        objective, new_model(objective), pairs, monkeypatch, cosines
    )


Plan = Callable[[SafeCLIP, Tensor], Planned]


def test_first_none_then_all_then_the_higher_cluster_is_safe(plan: Plan) -> None:
    planned = plan(SHORT, planted(44, 20))
    assert [planned.safe(epoch) for epoch in range(3)] == [
        set(),
        set(range(64)),
        set(range(44, 64)),
    ]


def test_the_safe_share_grows_by_its_step_up_to_the_cap(plan: Plan) -> None:
    planned = plan(replace(SHORT, epochs=9), planted(44, 20))
    sizes = [len(planned.safe(epoch)) for epoch in range(2, 9)]
    first = 20 / 64
    shares = [first, first + 0.1, first + 0.2, 0.6, 0.6, 0.6, 0.6]
    assert sizes == [round(share * 64) for share in shares]


def test_without_a_certain_pair_the_least_share_is_the_start(plan: Plan) -> None:
    alike = 0.3 + 0.03 * torch.randn(64, generator=torch.Generator().manual_seed(1))
    strict = replace(SHORT, certainty=1.0, least=0.25)
    safe = plan(strict, alike).safe(2)
    assert len(safe) == 16


def test_planted_poison_stays_outside_of_the_safe_pairs(plan: Plan) -> None:
    # Six pairs fit worse than the rest: at a cap of 85 % they are never among the safe ones.
    planned = plan(replace(SHORT, cap=0.85), planted(6, 58))
    for epoch in range(2, 5):
        assert not planned.safe(epoch) & set(range(6))


def test_pairs_are_ranked_again_in_every_epoch(plan: Plan) -> None:
    planned = plan(SHORT, planted(44, 20))
    planned.safe(2)
    planned.plant(planted(44, 20).flip(0))
    assert set(range(20)) <= planned.safe(3)


def test_every_pair_is_seen_once_an_epoch_risky_ones_first(plan: Plan) -> None:
    planned = plan(SHORT, planted(44, 20))
    planned.safe(2)
    loss = planned.task.loss
    assert isinstance(loss, DividedLoss)
    plan = loss._steps[::-1]
    assert len(plan) == 4  # as many as the loop makes of 64 pairs in batches of 16
    assert [kind for _, kind in plan] == sorted(kind for _, kind in plan)
    assert sorted(torch.cat([rows for rows, _ in plan]).tolist()) == list(range(64))


def views_of(model: Clip, loss: DividedLoss, pairs: Pairs, rows: Tensor) -> list[Tensor]:
    draws = stream(0, "step")
    images = [autoaugment(pairs.images[rows], draws) for _ in range(2)]
    texts = [view[rows] for view in loss.text_views]
    return [*map(model.encode_image, images), *map(model.encode_text, texts)]


@pytest.fixture
def model(new_model: Callable[[Objective], Clip]) -> Clip:
    return new_model(SHORT).eval()


def divided(model: Clip, pairs: Pairs, safe: Tensor) -> tuple[DividedLoss, Tensor]:
    """Return the loss before an epoch of one step, and that step's rows."""
    loss = SHORT.task(model, pairs, stream(0, "views")).loss
    assert isinstance(loss, DividedLoss)
    loss.divide(safe, 1, stream(0, "order"))
    return loss, loss._steps[0][0]


def one_batch(model: Clip, pairs: Pairs) -> Batch:
    return Batch(torch.arange(64), pairs.images, model.tokenize(pairs.captions))


def test_safe_pairs_have_the_clip_loss_with_different_views_in_each_direction(
    model: Clip, pairs: Pairs
) -> None:
    loss, rows = divided(model, pairs, torch.arange(64))
    first_image, second_image, first_text, second_text = views_of(model, loss, pairs, rows)
    to_text = one_way_loss(first_image, second_text, model.logit_scale())
    to_image = one_way_loss(first_text, second_image, model.logit_scale())
    computed = loss(model, one_batch(model, pairs), stream(0, "step"))
    torch.testing.assert_close(computed, (to_text + to_image) / 2)


def test_risky_images_are_never_contrasted_with_captions(model: Clip, pairs: Pairs) -> None:
    loss, rows = divided(model, pairs, torch.empty(0, dtype=torch.long))
    sampled = torch.randn(2, 6, model.embed_dim, generator=stream(0, "bank"))
    held = torch.nn.functional.normalize(sampled, dim=2)
    loss.of_images.append(held[0])
    loss.of_texts.append(held[1])
    first_image, second_image, first_text, second_text = views_of(model, loss, pairs, rows)
    scale = model.logit_scale()
    images = one_way_loss(second_image, held[0][(first_image @ held[0].T).argmax(1)], scale)
    texts = one_way_loss(second_text, held[1][(first_text @ held[1].T).argmax(1)], scale)
    computed = loss(model, one_batch(model, pairs), stream(0, "step"))
    torch.testing.assert_close(computed, (images + texts) / 2)


def test_the_cautious_epoch_alone_has_a_lower_rate(model: Clip, pairs: Pairs) -> None:
    task = replace(SHORT, in_modal_epochs=2, cautious_rate=0.05).task(model, pairs, stream(0, "v"))
    assert task.schedule.lr_scale == (1.0, 1.0, 0.05)


def test_too_few_epochs_for_safe_pairs_are_refused(model: Clip, pairs: Pairs) -> None:
    with pytest.raises(TrainingError, match="raise `epochs`"):
        SafeCLIP(epochs=6, in_modal_epochs=5).task(model, pairs, stream(0, "views"))


@pytest.mark.parametrize("killed_in", [4, 8])  # of two steps an epoch
def test_a_killed_run_resumes_to_the_same_bytes(
    survives: Callable[[Objective, int], bool], killed_in: int
) -> None:
    assert survives(SHORT, killed_in)
