"""Estimates of a trigger from images that have it and images that do not.

Two families: a linear trigger replaces, blends or adds pixels; a warp moves them.
"""

from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.fft import dct
from scipy.stats import binom
from torch import Tensor

from clipmend.model.clip import Clip, embed_images
from clipmend.model.optimizers import Adam

Bytes = UInt8[Tensor, "batch 3 height width"]
Pixels = Float[Tensor, "batch 3 height width"]

LEAST_EFFECT = 0.25  # a trigger turns a larger share of other images
FITTED_EFFECT = 0.5  # the same for an estimate that was searched with the model
LEAST_DEVIATION = 2 / 255  # of a pixel; a deviation of zero would make a ratio infinite
_REPLACED = 0.5  # share of a pixel that a trigger replaces from which the pixel counts as covered
_OPPONENT = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
_SMOOTH = 5  # side of the window over which weak shares are averaged
_INDEPENDENT = 10  # independent values in such a window, about
_FLOW_POINTS, _FLOW_BOUND = 6, 8 / 32  # control points along a side; largest shift in image sides
_INVERSIONS = 20
_FLOW_STEPS, _FLOW_BATCH, _FLOW_RATE = 200, 256, 0.05
_FLOW_SIDE = 16  # of the small images whose moments are compared
_SIDE = 64  # larger images are reduced to this side


@runtime_checkable
class Estimate(Protocol):
    """An estimated trigger."""

    @property
    def hides(self) -> bool:
        """Whether the trigger covers pixels, whose content is then lost."""

    def paste(self, images: Bytes) -> Pixels:
        """Return the images, in [0, 1], with the trigger on them."""

    def remove(self, images: Bytes) -> Pixels:
        """Return triggered images, in [0, 1], without the trigger as far as it is known."""

    def picture(self) -> UInt8[Tensor, "3 height width"]:
        """Return the trigger as an image, and beside it where it is."""


@dataclass(frozen=True)
class Linear:
    """The trigger ``x -> (1 - share) x + added``: a patch, a blend or a pattern that is added.

    Attributes:
        share: how much of each pixel the trigger replaces, in [0, 1].
        added: the value that it adds to each pixel.
        mean: the mean image without the trigger; it fills pixels that the trigger covers.
    """

    share: Float[Tensor, "3 height width"]
    added: Float[Tensor, "3 height width"]
    mean: Float[Tensor, "3 height width"]

    @property
    def hides(self) -> bool:
        """Whether the trigger covers pixels, whose content is then lost."""
        return bool((self.share > _REPLACED).any())

    def paste(self, images: Bytes) -> Pixels:
        """Return the images, in [0, 1], with the trigger on them."""
        return ((1 - self.share) * (images.float() / 255) + self.added).clamp(0, 1)

    def remove(self, images: Bytes) -> Pixels:
        """Return the images without the trigger; covered pixels have the mean."""
        rest = (images.float() / 255 - self.added) / (1 - self.share).clamp(min=1 - _REPLACED)
        return torch.where(self.share > _REPLACED, self.mean, rest).clamp(0, 1)

    def picture(self) -> UInt8[Tensor, "3 height width"]:
        """Return the added pattern around gray, scaled to be seen, and beside it the share."""
        pattern = torch.where(
            self.share > _REPLACED, self.added - 0.5, self.added - self.share * self.mean
        )
        pattern = 0.5 + 0.5 * pattern / pattern.abs().max().clamp(min=1e-6)
        return to_bytes(torch.cat([pattern, self.share], dim=2)[None])[0]


@dataclass(frozen=True)
class Warp:
    """The trigger that moves pixels along a smooth field.

    Attributes:
        field: the source of each pixel, relative to it, in units of half an image side (x, y).
    """

    field: Float[Tensor, "height width 2"]

    @property
    def hides(self) -> bool:
        """Whether the trigger covers pixels: a warp moves them."""
        return False

    def paste(self, images: Bytes) -> Pixels:
        """Return the images, in [0, 1], with the trigger on them."""
        return _moved(images.float() / 255, self.field).clamp(0, 1)

    def remove(self, images: Bytes) -> Pixels:
        """Return the images, moved back along the inverse of the field."""
        field = self.field.permute(2, 0, 1)[None]
        inverse = -self.field
        for _ in range(_INVERSIONS):  # the inverse at a pixel is minus the field where it leads
            inverse = -_moved(field, inverse)[0].permute(1, 2, 0)
        return _moved(images.float() / 255, inverse).clamp(0, 1)

    def picture(self) -> UInt8[Tensor, "3 height width"]:
        """Return the shift in x (red) and y (green) around gray, and beside it its length."""
        shift = self.field.permute(2, 0, 1) / (2 * _FLOW_BOUND)
        length = torch.linalg.vector_norm(shift, dim=0, keepdim=True).expand(3, -1, -1)
        colors = 0.5 + 0.5 * torch.cat([shift, torch.zeros_like(shift[:1])])
        return to_bytes(torch.cat([colors, length.clamp(max=1)], dim=2)[None])[0]


def to_bytes(pixels: Pixels) -> Bytes:
    """Return pixels in [0, 1] as 8 bits, as a file would store them."""
    return (pixels * 255).round().to(torch.uint8)


def linear(
    triggered: Bytes, others: UInt8[Tensor, "others 3 height width"], *, least: float
) -> Linear:
    """Return the linear trigger that explains how two sets of images differ, in closed form.

    With means ``m`` and standard deviations ``s`` of each pixel, the share is ``1 - s_triggered /
    s_others``, and the added value is ``m_triggered - (1 - share) m_others``. Where the share is
    weak, it is averaged over neighbors. The difference of the means is denoised in a cosine basis,
    in which natural images have nearly uncorrelated coefficients.

    Args:
        triggered: images of about the same content as ``others``, with the trigger.
        least: a coefficient is shrunk by its squared standard error times this factor.
    """
    own, other = triggered.float() / 255, others.float() / 255
    mean = other.mean(0)
    ratio = own.std(0).clamp(min=LEAST_DEVIATION) / other.std(0).clamp(min=LEAST_DEVIATION)
    covered = 1 - ratio
    weak = 1 - _averaged(ratio.log()).exp()
    error = (2 * len(own) * _INDEPENDENT) ** -0.5  # of a standard deviation's logarithm
    weak = torch.where((weak > 3 * error) & (weak < _REPLACED), weak, 0)
    share = torch.where(covered > _REPLACED, covered, weak).clamp(0, 1)
    raw = own.mean(0) - mean
    difference = torch.where(share > _REPLACED, raw, _denoised(raw, own, other, least))
    return Linear(share, difference + share * mean, mean)


def _averaged(values: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 height width"]:
    """Return the mean over the channels and a window around each pixel."""
    edge = _SMOOTH // 2
    padded = F.pad(values.mean(0, keepdim=True)[None], (edge,) * 4, mode="replicate")
    return F.avg_pool2d(padded, _SMOOTH, 1)[0].expand_as(values)


def _denoised(raw: Tensor, own: Tensor, other: Tensor, least: float) -> Tensor:
    """Shrink each coefficient of a difference of means by its error (James and Stein 1961)."""
    coefficients = to_cosines(raw[None])[0]
    variance = to_cosines(own).var(0) / len(own) + to_cosines(other).var(0) / len(other)
    kept = (1 - least * variance / coefficients.square().clamp(min=1e-12)).clamp(min=0)
    return from_cosines((coefficients * kept)[None])[0]


@cache
def _cosines(side: int) -> Float[Tensor, "side side"]:
    return torch.from_numpy(dct(torch.eye(side).double().numpy(), norm="ortho", axis=0)).float()


def to_cosines(pixels: Pixels) -> Pixels:
    """Return the coefficients of images in an orthonormal cosine basis of opponent colors."""
    basis, colors = _cosines(pixels.shape[-1]), _OPPONENT / _OPPONENT.norm(dim=1, keepdim=True)
    return torch.einsum("ij,bjhw->bihw", colors, basis @ pixels @ basis.T)


def from_cosines(coefficients: Pixels) -> Pixels:
    """Return the images of these coefficients; the inverse of ``to_cosines``."""
    basis, colors = (
        _cosines(coefficients.shape[-1]),
        _OPPONENT / _OPPONENT.norm(dim=1, keepdim=True),
    )
    return basis.T @ torch.einsum("ij,bihw->bjhw", colors, coefficients) @ basis


def warp(
    triggered: Bytes,
    others: UInt8[Tensor, "others 3 height width"],
    generator: torch.Generator,
) -> Warp:
    """Return the smooth field that gives ``others`` the second moments of ``triggered``.

    A warp leaves each value nearly as it is, but changes which pixels are alike. Minimizes the mean
    squared difference between the products of every two values, averaged over the images of each
    set. Values are those of small images, standardized by ``others``.

    Args:
        triggered: images of about the same content as ``others``, with the trigger.
    """
    normal = reduced(others.float() / 255)
    values = _small(normal)
    mean, deviation = values.mean(0), values.std(0).clamp(min=LEAST_DEVIATION)

    def moments(pixels: Pixels) -> Float[Tensor, "values values"]:
        standard = (_small(pixels) - mean) / deviation
        return standard.T @ standard / len(standard)

    wanted = moments(reduced(triggered.float() / 255))
    points = torch.zeros(1, 2, _FLOW_POINTS, _FLOW_POINTS, requires_grad=True)
    optimizer = Adam([points], lr=_FLOW_RATE)
    for _ in range(_FLOW_STEPS):
        rows = torch.randint(len(normal), (_FLOW_BATCH,), generator=generator)
        moved = _moved(normal[rows], _field(points, normal.shape[-1]))
        # The square of one noisy difference would favor fields that remove content.
        first, second = (moments(half) - wanted for half in moved.chunk(2))
        loss = (first * second).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Warp(_field(points.detach(), others.shape[-1]))


def _small(pixels: Pixels) -> Float[Tensor, "batch values"]:
    return F.adaptive_avg_pool2d(pixels, min(pixels.shape[-1], _FLOW_SIDE)).flatten(1)


def reduced(pixels: Pixels) -> Pixels:
    """Return the images at the side in which they are described; small ones are unchanged."""
    if pixels.shape[-1] <= _SIDE:
        return pixels
    return F.interpolate(pixels, (_SIDE, _SIDE), mode="area")


def flips(
    model: Clip,
    estimate: Estimate,
    images: Bytes,
    own: Float[Tensor, "batch dim"],
    target: Float[Tensor, " dim"],
) -> Bool[Tensor, " batch"]:
    """Return which images are nearer to ``target`` than to their own caption with the trigger."""
    parts = [embed_images(model, to_bytes(estimate.paste(part))) for part in images.split(256)]
    embeds = torch.cat(parts)
    return embeds @ target > (embeds * own).sum(dim=1)


def effect_of(hits: Bool[Tensor, " batch"], null: float) -> tuple[float, float]:
    """Return the share of hits, and the p-value of a binomial test against the share ``null``."""
    return float(hits.float().mean()), float(binom.sf(int(hits.sum()) - 1, len(hits), null))


def _field(points: Tensor, side: int) -> Float[Tensor, "height width 2"]:
    field = F.interpolate(points, (side, side), mode="bicubic", align_corners=True)
    return 2 * _FLOW_BOUND * field[0].permute(1, 2, 0).tanh()


def _moved(
    pixels: Float[Tensor, "batch channels height width"], field: Float[Tensor, "height width 2"]
) -> Float[Tensor, "batch channels height width"]:
    identity = torch.eye(2, 3).expand(len(pixels), -1, -1)
    grid = F.affine_grid(identity, list(pixels.shape), align_corners=False) + field
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
