"""PAR: its distances, its threshold, and its effect on embeddings."""

from functools import partial
from math import log

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.repairs.par import PAR, distance, gated
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images
from clipmend.model.fit import Batch, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import autoaugment


@pytest.fixture(scope="module")
def pairs(corpus: Input) -> Pairs:
    return load_split(corpus.folder, "trusted").blind()


@pytest.fixture
def model(pairs: Pairs) -> Clip:
    return build("scene_resnet", seed=0).prune_vocabulary(pairs.captions).eval()


def batch_of(model: Clip, pairs: Pairs, count: int) -> Batch:
    rows = torch.arange(count)
    return Batch(rows, pairs.images[:count], model.tokenize(pairs.captions[:count]))


def test_the_distance_is_the_mean_of_squares() -> None:
    ours = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    had = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6], [0.0, 1.0]])
    assert float(distance(ours, had)) == pytest.approx((0 + 4 + 0.08 + 2) / 4)


@pytest.mark.parametrize(("value", "kept", "slope"), [(2.15, 2.15, 1.0), (2.16, 0.0, 0.0)])
def test_a_distance_beyond_the_threshold_counts_as_0(
    value: float, kept: float, slope: float
) -> None:
    value = torch.tensor(value, requires_grad=True)
    computed = gated(value, 2.15)
    computed.backward()
    assert float(computed.detach()) == pytest.approx(kept)
    assert value.grad is not None
    assert float(value.grad) == slope


@torch.no_grad()
def test_the_victim_itself_has_the_loss_of_clip_on_the_views(model: Clip, pairs: Pairs) -> None:
    batch = batch_of(model, pairs, 16)
    computed = PAR().perturbation(
        model.frozen_copy(), model, batch, torch.Generator().manual_seed(1)
    )
    views = autoaugment(batch.images, torch.Generator().manual_seed(1))
    images, texts = model.encode_image(views), model.encode_text(batch.tokens)
    assert torch.allclose(computed, mmcl_loss(images, texts, model.logit_scale()))


@torch.no_grad()
def test_the_loss_subtracts_the_weighted_distances_of_both_modalities(
    model: Clip, pairs: Pairs
) -> None:
    batch = batch_of(model, pairs, 16)
    victim = build("scene_resnet", seed=1).prune_vocabulary(pairs.captions).eval()
    views = autoaugment(batch.images, torch.Generator().manual_seed(1))

    def rows(one: Clip) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        return one.encode_image(views), one.encode_text(batch.tokens)

    (images, texts), (had_images, had_texts) = rows(model), rows(victim)
    by_image = sum(float((a - b) @ (a - b)) for a, b in zip(images, had_images, strict=True)) / 16
    by_text = sum(float((a - b) @ (a - b)) for a, b in zip(texts, had_texts, strict=True)) / 16
    clip = float(mmcl_loss(images, texts, model.logit_scale()))
    for threshold in (4.0, (by_image + by_text) / 2, 1e-3):
        repair = PAR(weight=0.7, threshold=threshold)
        away = sum(d for d in (by_image, by_text) if d <= threshold)
        computed = float(
            repair.perturbation(victim, model, batch, torch.Generator().manual_seed(1))
        )
        assert computed == pytest.approx(clip - 0.7 * away, rel=1e-4)


def test_it_moves_away_from_the_victims_embeddings_and_relearns_the_pairs(
    model: Clip, pairs: Pairs
) -> None:
    few = pairs.take(torch.arange(32))
    learning = Schedule(epochs=15, batch_size=16, lr=2e-3)
    fit(model, Task(few, multimodal, learning), torch.Generator().manual_seed(0))
    victim, moved = model.frozen_copy(), {}
    had, schedule = embed_images(victim, few.images), Schedule(epochs=15, batch_size=16, lr=1e-3)
    for weight in (0.0, 0.5):
        one, loss = victim.frozen_copy(), partial(PAR(weight=weight).perturbation, victim)
        fit(one, Task(few, loss, schedule), torch.Generator().manual_seed(0))
        moved[weight] = float(distance(embed_images(one, few.images), had))
    assert moved[0.5] > 1.5 * moved[0.0]
    with torch.no_grad():
        recovered = float(multimodal(one, batch_of(one, few, 32), torch.Generator()))
    assert recovered < 0.7 * log(32)  # chance is log 32
