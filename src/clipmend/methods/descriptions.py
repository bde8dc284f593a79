"""Descriptions of images in which natural ones have uncorrelated features of equal variance.

Patterns of an attacker then stand out from the content of images.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.trigger_estimates import Pixels, reduced, to_cosines

_LOWEST = 5  # frequencies along each axis that show the content of an image
_CELL = 4  # side of the cells in which the texture is measured, in pixels
# Curvature along rows and along columns, and the mixed difference: a warp changes each another way.
_DETAIL = torch.tensor(
    [
        [[0.0, 0, 0], [-1, 2, -1], [0, 0, 0]],
        [[0, -1, 0], [0, 2, 0], [0, -1, 0]],
        [[1, -1, 0], [-1, 1, 0], [0, 0, 0]],
    ]
)


class Cosines:
    """Standardized coefficients of images in a cosine basis of opponent colors.

    Args:
        pixels: natural images, whose statistics are the standard.
    """

    def __init__(self, pixels: Pixels) -> None:
        raw = self._raw(pixels)
        self.mean, self.deviation = raw.mean(0), raw.std(0).clamp(min=1e-4)

    def __call__(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        """Return the features of images with values in [0, 1]."""
        return (self._raw(pixels) - self.mean) / self.deviation

    def content(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        """Return the features of the lowest frequencies, which a warp leaves nearly as they are."""
        side = reduced(pixels[:1]).shape[-1]
        lowest: Tensor = self(pixels).view(-1, 3, side, side)[:, :, :_LOWEST, :_LOWEST]
        return lowest.flatten(1)

    def _raw(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        return to_cosines(reduced(pixels)).flatten(1)


class Texture:
    """Whitened logarithms of the fine detail in each cell of an image, in three directions.

    Args:
        pixels: natural images, whose statistics are the standard.
    """

    def __init__(self, pixels: Pixels) -> None:
        raw = self._raw(pixels)
        self.mean = raw.mean(0)
        covariance = torch.cov(raw.T) + 1e-3 * torch.eye(raw.shape[1])
        # In 32 bits, MKL's last bit depends on the maker of the processor.
        self.factor = torch.linalg.cholesky(covariance.double()).float()

    def __call__(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        """Return the features of images with values in [0, 1]."""
        centered = (self._raw(pixels) - self.mean).T
        solved: Tensor = torch.linalg.solve_triangular(self.factor, centered, upper=False)
        return solved.T

    def _raw(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        gray = F.pad(reduced(pixels).mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        detail = F.avg_pool2d(F.conv2d(gray, _DETAIL[:, None]).square(), _CELL)
        return (detail + 1e-5).log().flatten(1)
