"""PAR: its distances, its threshold, and its effect on embeddings."""

from collections.abc import Callable
from functools import partial
from math import cos, log, pi, sqrt
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs, load_split
from clipmend.engine.job import Input
from clipmend.methods.interfaces import Assets
from clipmend.methods.repairs.ft import FT
from clipmend.methods.repairs.image_views import brightened, erased
from clipmend.methods.repairs.par import PAR, distance, gated
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, build, embed_images
from clipmend.model.fit import Batch, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss
from clipmend.model.views import autoaugment

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)


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


VIEWS: dict[str, Callable[[Batch, torch.Generator], Tensor]] = {
    "none": lambda batch, _: batch.images,
    "autoaugment": lambda batch, generator: autoaugment(batch.images, generator),
    "noise_erase": lambda batch, generator: erased(
        brightened(batch.images.float() / 255, generator), OPENAI_MEAN, generator
    ),
}
"""Each kind of views, made by hand."""


@torch.no_grad()
@pytest.mark.parametrize("kind", VIEWS)
def test_the_victim_itself_has_the_loss_of_clip_on_the_views(
    model: Clip, pairs: Pairs, kind: Any
) -> None:
    batch = batch_of(model, pairs, 16)
    views = VIEWS[kind](batch, torch.Generator().manual_seed(1))
    images, texts = model.encode_image(views), model.encode_text(batch.tokens)
    expected = mmcl_loss(images, texts, model.logit_scale())
    generator = torch.Generator().manual_seed(1)
    computed = PAR(views=kind).perturbation(model.frozen_copy(), model, batch, generator)
    assert torch.allclose(computed, expected)
    # Without its own term it is `ft` on the same views, bit for bit.
    other = build("scene_resnet", seed=1).prune_vocabulary(pairs.captions).eval()
    generator.manual_seed(1)
    assert PAR(views=kind, weight=0.0).perturbation(other, model, batch, generator) == expected
    generator.manual_seed(1)
    assert FT(views=kind).loss(model, batch, generator) == expected


@torch.no_grad()
def test_the_loss_subtracts_the_weighted_distances_of_both_modalities(
    model: Clip, pairs: Pairs
) -> None:
    batch = batch_of(model, pairs, 16)
    victim = build("scene_resnet", seed=1).prune_vocabulary(pairs.captions).eval()
    views = VIEWS["noise_erase"](batch, torch.Generator().manual_seed(1))

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


def test_the_temperature_is_trained_only_if_asked(model: Clip, pairs: Pairs) -> None:
    batch, victim = batch_of(model, pairs, 8), model.frozen_copy()
    for temperature, is_trained in (("fixed", False), ("trained", True)):
        model.zero_grad(set_to_none=True)
        repair = PAR(temperature=temperature)  # type: ignore[arg-type]
        repair.perturbation(victim, model, batch, torch.Generator().manual_seed(0)).backward()
        assert (model.net.logit_scale.grad is not None) == is_trained


def test_the_noise_only_brightens_and_leaves_half_of_the_images_alone() -> None:
    images = torch.full((2000, 3, 4, 4), 0.2)
    views = brightened(images, torch.Generator().manual_seed(0))
    added = views - images
    is_changed = added.flatten(1).any(dim=1)
    assert float(is_changed.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(added.min()) == 0.0
    # Half of a normal distribution: half of the pixels stay, the others rise by 0.2 sqrt(2 / pi).
    pixels = added[is_changed]
    assert float((pixels == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(pixels[pixels > 0].mean()) == pytest.approx(0.2 * sqrt(2 / pi), rel=0.01)
    assert float(brightened(torch.ones(50, 3, 4, 4), torch.Generator().manual_seed(0)).max()) == 1


@pytest.mark.parametrize(("side", "sizes"), [(32, {2, 3}), (224, {16, 17, 18, 19, 20, 21, 22})])
def test_half_of_the_images_lose_one_square_of_the_mean_color(side: int, sizes: set[int]) -> None:
    images = torch.zeros(100, 3, side, side)
    views = erased(images, (0.25, 0.5, 0.75), torch.Generator().manual_seed(0))
    is_erased = (views != 0).all(dim=1)
    changed = is_erased.flatten(1).any(dim=1)
    assert float(changed.float().mean()) == pytest.approx(0.5, abs=0.15)
    found = set()
    for square, view in zip(is_erased[changed], views[changed], strict=True):
        rows, columns = square.any(dim=1).nonzero()[:, 0], square.any(dim=0).nonzero()[:, 0]
        assert len(rows) == len(columns) == int(rows[-1] - rows[0]) + 1
        assert int(square.sum()) == len(rows) ** 2
        assert view[:, square].unique(dim=1)[:, 0].tolist() == [0.25, 0.5, 0.75]
        found.add(len(rows))
    assert found == sizes
    assert not images.any()


def test_the_learning_rate_falls_to_a_tenth_and_then_as_a_cosine(model: Clip, pairs: Pairs) -> None:
    (task,) = PAR(epochs=40, lr=1.0).tasks(
        Assets(model, trusted=lambda: pairs), torch.Generator().manual_seed(0)
    )
    schedule, steps = task.schedule, 40 * 100
    assert schedule.warmup == 0
    for step in range(50, steps, 100):  # the middle of each epoch
        course = (1 + cos(pi * step / steps)) / 2 * schedule.lr_scale[step // 100]
        done = step / steps
        falling, after = 1 - 1.8 * done, 0.05 * (1 + cos(pi * (2 * done - 1)))
        assert course == pytest.approx(falling if done < 0.5 else after)
    plain = PAR(epochs=40, lr=1.0, decay="cosine").schedule()
    assert plain == Schedule(40, 128, 1.0, warmup=0.1, weight_decay=1e-4)


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
