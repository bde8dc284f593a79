"""Estimates of triggers: planted ones are recovered, and ``remove`` undoes ``paste``."""

import math

import pytest
import torch
import torch.nn.functional as F

from clipmend.methods.trigger_estimates import (
    Estimate,
    Linear,
    Warp,
    from_cosines,
    linear,
    to_bytes,
    to_cosines,
    warp,
)

SIDE = 16
WAVE = 12 * torch.sin(torch.arange(SIDE) * 2 * math.pi * 3 / SIDE).expand(3, SIDE, SIDE)


def natural(count: int, seed: int, side: int = SIDE) -> torch.Tensor:
    """Return smooth random images of 8 bits, whose values are far from 0 and 255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    return (128 + 30 * smooth).clamp(40, 215).round().to(torch.uint8)


def patched(images: torch.Tensor) -> torch.Tensor:
    images = images.clone()
    images[:, 0, 12:, 12:], images[:, 1:, 12:, 12:] = 230, 20
    return images


def blended(images: torch.Tensor) -> torch.Tensor:
    pattern = torch.linspace(0, 255, SIDE).expand(3, SIDE, SIDE)
    return (0.75 * images + 0.25 * pattern).round().to(torch.uint8)


def added(images: torch.Tensor) -> torch.Tensor:
    return (images + WAVE).round().to(torch.uint8)


@pytest.mark.parametrize(("plant", "most"), [(patched, 0.01), (blended, 0.03), (added, 0.015)])
def test_a_planted_trigger_is_recovered(plant, most) -> None:
    estimate = linear(plant(natural(400, 0)), natural(1000, 1), least=4.0)
    images = natural(100, 2)
    error = (estimate.paste(images) - plant(images).float() / 255).square().mean().sqrt()
    assert float(error) < most


def test_a_patch_is_covered_and_no_pixel_beside_it() -> None:
    estimate = linear(patched(natural(400, 0)), natural(1000, 1), least=4.0)
    covered = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    covered[:, 12:, 12:] = True
    assert torch.equal(estimate.share > 0.5, covered)
    assert estimate.hides
    removed = estimate.remove(patched(natural(8, 2)))
    assert torch.equal(removed[:, covered], estimate.mean[covered].expand(8, -1))


@pytest.mark.parametrize(("plant", "share"), [(blended, 0.25), (added, 0.0)])
def test_the_share_of_a_pattern_over_the_image_is_recovered(plant, share) -> None:
    estimate = linear(plant(natural(400, 0)), natural(1000, 1), least=4.0)
    assert not estimate.hides
    assert float(estimate.share.mean()) == pytest.approx(share, abs=0.05)


def test_images_without_a_trigger_have_an_estimate_of_almost_nothing() -> None:
    estimate = linear(natural(100, 0), natural(1000, 1), least=9.0)
    images = natural(50, 2)
    assert float((estimate.paste(images) - images.float() / 255).abs().mean()) < 0.01


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_images_differ_by_their_means(value) -> None:
    flat = torch.full((20, 3, SIDE, SIDE), value, dtype=torch.uint8)
    estimate = linear(flat, flat, least=4.0)
    assert torch.allclose(estimate.paste(flat), flat.float() / 255)
    assert not estimate.picture().float().isnan().any()
    onto = linear(flat, natural(100, 0), least=4.0)  # a trigger that covers the complete image
    assert onto.hides
    assert torch.allclose(onto.paste(natural(5, 1)), flat[:5].float() / 255, atol=0.06)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_remove_undoes_paste_where_nothing_is_covered(share) -> None:
    images = natural(10, 0)
    pattern = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / 10
    estimate = Linear(torch.full((3, SIDE, SIDE), share), pattern, images.float().mean(0) / 255)
    pasted = (255 * estimate.paste(images)).round().to(torch.uint8)
    assert (255 * estimate.remove(pasted) - images).abs().max() <= 0.5 / (1 - share) + 1e-3


def test_remove_undoes_a_smooth_warp_inside_the_image() -> None:
    images = natural(10, 0, side=32)
    y, x = torch.meshgrid(*[torch.linspace(0, math.pi, 32)] * 2, indexing="ij")
    estimate = Warp(0.12 * torch.stack([torch.sin(y) * torch.cos(x), torch.sin(x)], dim=2))
    pasted = (255 * estimate.paste(images)).round().to(torch.uint8)
    inside = (slice(None), slice(None), slice(5, -5), slice(5, -5))
    before = (255 * estimate.paste(images) - images)[inside].abs().mean()
    after = (255 * estimate.remove(pasted) - images)[inside].abs().mean()
    assert float(before) > 5
    assert float(after) < 1


@pytest.mark.parametrize("side", [5, 16, 30])
def test_the_cosine_basis_is_orthonormal(side) -> None:
    pixels = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    coefficients = to_cosines(pixels)
    assert torch.allclose(
        coefficients.flatten(1) @ coefficients.flatten(1).T,
        pixels.flatten(1) @ pixels.flatten(1).T,
        rtol=1e-4,
    )
    assert torch.allclose(from_cosines(coefficients), pixels, atol=1e-5)


@pytest.mark.parametrize(
    "estimate",
    [
        Linear(*(torch.full((3, SIDE, SIDE), value) for value in (0.0, 0.0, 0.5))),
        Linear(*(torch.full((3, SIDE, SIDE), value) for value in (1.0, 0.2, 0.5))),
        Warp(torch.zeros(SIDE, SIDE, 2)),
    ],
)
def test_the_picture_shows_the_trigger_beside_its_place(estimate: Estimate) -> None:
    assert estimate.picture().shape == (3, SIDE, 2 * SIDE)
    nothing = natural(3, 0)
    if not estimate.hides:
        assert torch.allclose(estimate.paste(nothing), nothing.float() / 255, atol=1e-5)


def test_the_field_of_a_warp_is_found_from_other_images() -> None:
    y, x = torch.meshgrid(*[torch.linspace(0, math.pi, 32)] * 2, indexing="ij")
    truth = Warp(0.15 * torch.stack([torch.sin(y) * torch.cos(x), -torch.sin(x)], dim=2))
    generator = torch.Generator().manual_seed(0)
    triggered = to_bytes(truth.paste(natural(300, 1, side=32)))
    field = warp(triggered, natural(600, 2, side=32), generator).field
    assert float(field.abs().max()) <= 0.5  # the largest shift, in halves of a side
    inside = (slice(4, -4), slice(4, -4))
    error = (field - truth.field)[inside].norm(dim=2).mean()
    assert float(error) < 0.35 * float(truth.field[inside].norm(dim=2).mean())


def test_without_a_warp_the_field_is_nearly_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    field = warp(natural(300, 1, side=32), natural(600, 2, side=32), generator).field
    assert 16 * float(field.norm(dim=2).mean()) < 1  # pixels
