"""The image views on which repairs fine-tune: noise with an erased square, AutoAugment, or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from clipmend.model.autoaugment import Policy
from clipmend.model.clip import Clip
from clipmend.model.views import autoaugment

Kind = Literal["noise_erase", "autoaugment", "none"]

# All as in the code of arXiv:2412.00727.
_CHANCE = 0.5  # of the noise, and of the square
_NOISE = 0.2  # standard deviation
_AREA = (0.005, 0.01)  # of the square, as shares of the image


@dataclass(frozen=True)
class ImageViews:
    """Makes one view of each image of a batch.

    Attributes:
        kind: ``noise_erase``, ``autoaugment``, or ``none`` for the images themselves.
        policy: AutoAugment's policy.
        model: the model that sees the views. An erased square has the color of its pixel mean.
    """

    kind: Kind
    policy: Policy
    model: Clip

    def __call__(
        self, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> Shaped[Tensor, "batch 3 height width"]:
        """Return the views: 8 bits, or floats in [0, 1] with noise."""
        if self.kind == "none":
            return images
        if self.kind == "autoaugment":
            return autoaugment(images, generator, policy=self.policy)
        mean = self.model.config["preprocess_cfg"]["mean"]
        return erased(brightened(images.float() / 255, generator), mean, generator)


def brightened(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Return images in [0, 1], half of them with noise that only brightens.

    Negative noise is cut off, as in the code of arXiv:2412.00727.
    """
    chosen = torch.rand(len(images), generator=generator) < _CHANCE
    noise = (_NOISE * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    added = noise * chosen[:, None, None, None]
    return (images + added.to(images.device)).clamp(0, 1)


def erased(
    images: Float[Tensor, "batch 3 height width"],
    color: Sequence[float],
    generator: torch.Generator,
) -> Float[Tensor, "batch 3 height width"]:
    """Return the images, half of them with one square of this color, 0.5 to 1 % of the area.

    As torchvision's ``RandomErasing``: the side is rounded, and the place is uniform.
    """
    height, width = images.shape[-2:]
    fill = torch.tensor(color, device=images.device)[:, None, None]
    views = images.clone()
    for row in range(len(images)):
        chance, area, down, right = torch.rand(4, generator=generator).tolist()
        share = _AREA[0] + area * (_AREA[1] - _AREA[0])
        side = round(sqrt(share * height * width))
        if chance >= _CHANCE or side >= min(height, width):
            continue
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        views[row, :, top : top + side, left : left + side] = fill
    return views
