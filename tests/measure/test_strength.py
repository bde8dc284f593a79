"""The strength of a trigger: against the formulas, written out."""

import pytest
import torch

from clipmend.measure.strength import strength

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
    assert found.n == 3


def test_a_stronger_change_is_less_alike() -> None:
    clean = images()
    weak, strong = strength(clean, clean + 4), strength(clean, clean // 2)
    assert weak is not None
    assert strong is not None
    assert strong.psnr < weak.psnr
    assert strong.ssim < weak.ssim
    assert strong.changed <= weak.changed == 1


def test_an_image_that_stays_as_it_is_has_no_strength() -> None:
    clean = images()
    marked = clean.clone()
    marked[1:] += 1
    assert strength(clean, marked) is None
