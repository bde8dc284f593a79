"""Adversarial examples: they use their budget to the full, never more, and leave the model be."""

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
    """Its embedding is a linear map of the pixels, not normalized, so that slopes are known."""

    def __init__(self, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(weight)

    def encode_image(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight

    def logit_scale(self) -> Tensor:
        return torch.tensor(3.0)


@pytest.fixture
def images() -> Tensor:
    """Five images of 12 pixel values, some of them at either end of the range."""
    drawn = torch.rand(5, 3, 2, 2, generator=stream(0, "test"))
    drawn[0], drawn[1] = 0.0, 1.0
    return drawn


@pytest.fixture
def slope() -> Tensor:
    return torch.randn(3, 2, 2, generator=stream(1, "test"))


def along(slope: Tensor) -> Aim:
    return lambda images: (images * slope).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_pgd_finds_the_corner_of_the_box_where_the_aim_is_linear(
    images: Tensor, slope: Tensor, steps: int
) -> None:
    found = pgd(images, along(slope), Budget(EPSILON, steps))
    assert torch.equal(found, (images + EPSILON * slope.sign()).clamp(0, 1))


def test_a_drawn_start_does_not_change_what_is_found(images: Tensor, slope: Tensor) -> None:
    found = pgd(images, along(slope), Budget(EPSILON, 10), stream(0, "pgd"))
    assert torch.equal(found, (images + EPSILON * slope.sign()).clamp(0, 1))


def test_where_the_aim_is_flat_the_start_is_what_is_found(images: Tensor) -> None:
    budget = Budget(EPSILON, 3)
    flat = along(torch.zeros(3, 2, 2))
    assert torch.equal(pgd(images, flat, budget), images)
    drawn = pgd(images, flat, budget, stream(0, "pgd"))
    assert torch.equal(drawn, pgd(images, flat, budget, stream(0, "pgd")))
    assert 0 < float((drawn - images).abs().max()) <= EPSILON + 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 1 / 255, 8 / 255, 0.7])
@pytest.mark.parametrize("generator", [None, stream(3, "pgd")])
def test_no_pixel_leaves_its_range_nor_the_bound(
    images: Tensor, epsilon: float, generator: torch.Generator | None
) -> None:
    model = Linear(torch.randn(12, 4, generator=stream(2, "test")))
    aim = mismatch(model, torch.eye(5, 4))
    found = pgd(images, aim, Budget(epsilon, 4), generator)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float((found - images).abs().max()) <= epsilon + 1e-6
    assert not found.requires_grad


def test_the_images_given_are_not_written_to(images: Tensor, slope: Tensor) -> None:
    before = images.clone()
    pgd(images, along(slope), Budget(EPSILON, 2), stream(0, "pgd"))
    assert torch.equal(images, before)


def test_mismatch_is_infonce_with_one_s_own_text() -> None:
    model = Linear(torch.eye(12)[:, :4])
    images = torch.eye(4, 12).view(4, 3, 2, 2)
    matched = math.log(1 + 3 * math.exp(-3))
    assert mismatch(model, torch.eye(4))(images).tolist() == pytest.approx([matched] * 4)
    alike = torch.ones(4, 4)
    assert mismatch(model, alike)(images).tolist() == pytest.approx([math.log(4)] * 4)


def test_misclassification_is_the_cross_entropy_at_a_scale_of_100() -> None:
    model = Linear(torch.eye(12)[:, :4])
    images = torch.eye(4, 12).view(4, 3, 2, 2) / 100
    aim = misclassification(model, torch.eye(4), torch.tensor([0, 1, 0, 0]))
    right, wrong = math.log(1 + 3 * math.exp(-1)), math.log(3 + math.exp(1))
    assert aim(images).tolist() == pytest.approx([right, right, wrong, wrong])


def test_displacement_is_the_squared_distance_and_flat_at_the_images(images: Tensor) -> None:
    model = Linear(torch.eye(12))
    aim = displacement(model, model.encode_image(images))
    moved = images + torch.full_like(images, 0.5)
    assert aim(moved).tolist() == pytest.approx([12 * 0.25] * 5)
    asked = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(aim(asked).sum(), asked)
    assert torch.equal(gradient, torch.zeros_like(images))


@pytest.fixture
def unsettled(victim: Input) -> Clip:
    """A model in training, but for one module; one parameter of it is frozen."""
    model = load(victim.folder).train()
    model.net.visual.layer1.eval()
    model.net.visual.conv1.weight.requires_grad_(False)
    return model


def modes(model: Clip) -> list[bool]:
    return [module.training for module in model.modules()]


def flags(model: Clip) -> list[bool]:
    return [parameter.requires_grad for parameter in model.parameters()]


def test_held_gives_back_each_module_s_mode_and_each_parameter_s_flag(unsettled: Clip) -> None:
    had_modes, had_flags = modes(unsettled), flags(unsettled)
    with frozen(unsettled):
        assert not any(modes(unsettled))
        assert not any(flags(unsettled))
    assert modes(unsettled) == had_modes
    assert flags(unsettled) == had_flags
    assert {True, False} == set(had_modes) == set(had_flags)


def test_held_gives_them_back_after_an_error_too(unsettled: Clip) -> None:
    had_modes, had_flags = modes(unsettled), flags(unsettled)
    with pytest.raises(KeyError), frozen(unsettled):
        raise KeyError
    assert modes(unsettled) == had_modes
    assert flags(unsettled) == had_flags


AIMS: dict[str, Callable[[Clip, Tensor], Aim]] = {
    "mismatch": mismatch,  # with its own embedding in the place of its caption's
    "displacement": displacement,
    "misclassification": lambda model, at: misclassification(
        model, at[:3], torch.zeros(len(at), dtype=torch.long)
    ),
}


@pytest.mark.parametrize("name", AIMS)
def test_an_attack_raises_its_aim_and_leaves_no_trace_in_the_model(
    unsettled: Clip, name: str
) -> None:
    before = {key: value.clone() for key, value in unsettled.state_dict().items()}
    images = torch.rand(6, 3, 32, 32, generator=stream(0, "test"))
    with frozen(unsettled):
        aim = AIMS[name](unsettled, unsettled.encode_image(images).detach())
        found = pgd(images, aim, Budget(EPSILON, 3), stream(0, "pgd"))
        gained = aim(found) - aim(images)
    assert float(gained.mean()) > 0
    assert all(torch.equal(value, before[key]) for key, value in unsettled.state_dict().items())
    assert all(parameter.grad is None for parameter in unsettled.parameters())
