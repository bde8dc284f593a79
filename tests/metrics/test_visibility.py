"""The strength of a trigger: against the formulas, written out."""

from dataclasses import replace

import pytest
import torch

from clipmend.metrics.visibility import strength

SIDE = 16


def images(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(200, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def test_psnr_is_that_of_the_mean_square_and_the_share_is_of_pixels() -> None:
    clean = images()
    marked = clean.clone()
    marked[:, 1, :4] += 8  # a quarter of the pixels, in one channel
    found = strength(clean, marked)
    assert found is not None
    mse = 8**2 / 4 / 3
    assert found.psnr == pytest.approx(10 * torch.tensor(255**2 / mse).log10().item(), abs=1e-4)
    assert found.changed == 0.25
    assert 0 < found.ssim < 1
    assert (found.n, found.n_unchanged) == (3, 0)


def test_a_stronger_change_is_less_alike() -> None:
    clean = images()
    weak, strong = strength(clean, clean + 4), strength(clean, clean // 2)
    assert weak is not None
    assert strong is not None
    assert strong.psnr < weak.psnr
    assert strong.ssim < weak.ssim
    assert strong.changed <= weak.changed == 1


def test_an_image_that_stays_as_it_is_is_counted_and_in_no_mean() -> None:
    clean = images()
    marked = clean.clone()
    marked[1:] += 1
    found, without = strength(clean, marked), strength(clean[1:], marked[1:])
    assert found is not None
    assert without is not None
    assert (found.n, found.n_unchanged) == (2, 1)
    assert found == replace(without, n_unchanged=1)


def test_of_images_that_all_stay_as_they_are_there_is_no_strength() -> None:
    assert strength(images(), images()) is None
