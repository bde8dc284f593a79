"""PGD uses its full budget, stays within its bound, and does not change the model."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clipmend.data.seeds import stream
from clipmend.engine.job import Input
from clipmend.metrics.adversarial import (
    Aim,
    Budget,
    displacement,
    frozen,
    misclassification,
    mismatch,
    pgd,
)
from clipmend.model.clip import Clip, load

EPSILON = 8 / 255


class Linear(Clip):
    """A model whose embedding is a linear map of the pixels, with constant gradients."""

    def __init__(self, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(weight)

    def encode_image(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight

    def logit_scale(self) -> Tensor:
        return torch.tensor(3.0)


@pytest.fixture
def images() -> Tensor:
    """Return five images of 12 pixel values, some of them at either end of the range."""
    images = torch.rand(5, 3, 2, 2, generator=stream(0, "test"))
    images[0], images[1] = 0.0, 1.0
    return images


@pytest.fixture
def slope() -> Tensor:
    return torch.randn(3, 2, 2, generator=stream(1, "test"))


def along(slope: Tensor) -> Aim:
    return lambda images: (images * slope).sum(dim=(1, 2, 3))


@pytest.mark.parametrize(("steps", "is_random"), [(1, False), (3, False), (10, False), (10, True)])
def test_pgd_reaches_the_corner_of_the_box_where_the_aim_is_linear(
    images, slope, steps, is_random
) -> None:
    before = images.clone()
    start = stream(0, "pgd") if is_random else None
    adversarial = pgd(images, along(slope), Budget(EPSILON, steps), start)
    assert torch.equal(adversarial, (images + EPSILON * slope.sign()).clamp(0, 1))
    assert torch.equal(images, before)


def test_pgd_returns_its_start_where_the_aim_is_flat(images) -> None:
    budget = Budget(EPSILON, 3)
    flat = along(torch.zeros(3, 2, 2))
    assert torch.equal(pgd(images, flat, budget), images)
    start = pgd(images, flat, budget, stream(0, "pgd"))
    assert torch.equal(start, pgd(images, flat, budget, stream(0, "pgd")))
    assert 0 < float((start - images).abs().max()) <= EPSILON + 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 1 / 255, 8 / 255, 0.7])
@pytest.mark.parametrize("generator", [None, stream(3, "pgd")])
def test_no_pixel_leaves_its_range_or_the_bound(images, epsilon, generator) -> None:
    model = Linear(torch.randn(12, 4, generator=stream(2, "test")))
    aim = mismatch(model, torch.eye(5, 4))
    adversarial = pgd(images, aim, Budget(epsilon, 4), generator)
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1
    assert float((adversarial - images).abs().max()) <= epsilon + 1e-6
    assert not adversarial.requires_grad


def test_mismatch_is_the_infonce_loss_of_an_image_with_its_own_text() -> None:
    model = Linear(torch.eye(12)[:, :4])
    images = torch.eye(4, 12).view(4, 3, 2, 2)
    matched = math.log(1 + 3 * math.exp(-3))
    assert mismatch(model, torch.eye(4))(images).tolist() == pytest.approx([matched] * 4)
    assert mismatch(model, torch.ones(4, 4))(images).tolist() == pytest.approx([math.log(4)] * 4)


def test_misclassification_is_the_cross_entropy_at_a_scale_of_100() -> None:
    model = Linear(torch.eye(12)[:, :4])
    images = torch.eye(4, 12).view(4, 3, 2, 2) / 100
    aim = misclassification(model, torch.eye(4), torch.tensor([0, 1, 0, 0]))
    right, wrong = math.log(1 + 3 * math.exp(-1)), math.log(3 + math.exp(1))
    assert aim(images).tolist() == pytest.approx([right, right, wrong, wrong])


def test_displacement_is_the_squared_distance_with_gradient_0_at_the_images(images) -> None:
    model = Linear(torch.eye(12))
    aim = displacement(model, model.encode_image(images))
    moved = images + torch.full_like(images, 0.5)
    assert aim(moved).tolist() == pytest.approx([12 * 0.25] * 5)
    start = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(aim(start).sum(), start)
    assert torch.equal(gradient, torch.zeros_like(images))


@pytest.fixture
def training(victim: Input) -> Clip:
    """Return a model in training, with one module in evaluation and one frozen parameter."""
    model = load(victim.folder).train()
    model.net.visual.layer1.eval()
    model.net.visual.conv1.weight.requires_grad_(False)
    return model


def flags(model: Clip) -> tuple[list[bool], list[bool]]:
    """Return the mode of each module and ``requires_grad`` of each parameter."""
    modes = [module.training for module in model.modules()]
    return modes, [parameter.requires_grad for parameter in model.parameters()]


def test_frozen_restores_each_mode_and_each_flag_also_after_an_error(training) -> None:
    before = flags(training)
    assert {True, False} == set(before[0]) == set(before[1])
    with frozen(training):
        assert not any(map(any, flags(training)))
    assert flags(training) == before
    with pytest.raises(KeyError), frozen(training):
        raise KeyError
    assert flags(training) == before


AIMS: dict[str, Callable[[Clip, Tensor], Aim]] = {
    "mismatch": mismatch,  # with the embeddings of the images in place of those of the captions
    "displacement": displacement,
    "misclassification": lambda model, embeds: misclassification(
        model, embeds[:3], torch.zeros(len(embeds), dtype=torch.long)
    ),
}


@pytest.mark.parametrize("name", AIMS)
def test_an_attack_raises_its_aim_and_does_not_change_the_model(training, name) -> None:
    before = {key: value.clone() for key, value in training.state_dict().items()}
    images = torch.rand(6, 3, 32, 32, generator=stream(0, "test"))
    with frozen(training):
        aim = AIMS[name](training, training.encode_image(images).detach())
        adversarial = pgd(images, aim, Budget(EPSILON, 3), stream(0, "pgd"))
        gain = aim(adversarial) - aim(images)
    assert float(gain.mean()) > 0
    assert all(torch.equal(value, before[key]) for key, value in training.state_dict().items())
    assert all(parameter.grad is None for parameter in training.parameters())
