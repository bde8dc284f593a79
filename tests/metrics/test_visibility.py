"""The strength of a trigger agrees with the formulas."""

from dataclasses import replace

import pytest
import torch

from clipmend.metrics.visibility import strength

SIDE = 16


def images(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(200, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def test_psnr_follows_from_the_mean_square_and_the_changed_share_counts_pixels() -> None:
    clean = images()
    marked = clean.clone()
    marked[:, 1, :4] += 8  # a quarter of the pixels, in one channel
    measured = strength(clean, marked)
    mse = 8**2 / 4 / 3
    assert measured.psnr == pytest.approx(10 * torch.tensor(255**2 / mse).log10().item(), abs=1e-4)
    assert measured.changed == 0.25
    assert 0 < measured.ssim < 1
    assert (measured.n, measured.n_unchanged) == (3, 0)


def test_a_stronger_change_has_less_psnr_and_ssim() -> None:
    clean = images()
    weak, strong = strength(clean, clean + 4), strength(clean, clean // 2)
    assert strong.psnr < weak.psnr
    assert strong.ssim < weak.ssim
    assert strong.changed <= weak.changed == 1


def test_an_unchanged_image_is_counted_and_enters_no_mean() -> None:
    clean = images()
    marked = clean.clone()
    marked[1:] += 1
    measured, without = strength(clean, marked), strength(clean[1:], marked[1:])
    assert (measured.n, measured.n_unchanged) == (2, 1)
    assert measured == replace(without, n_unchanged=1)


def test_images_that_are_all_unchanged_have_no_strength() -> None:
    assert strength(images(), images()) is None
