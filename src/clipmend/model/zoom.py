"""Zoomed views, mirrored: what an image shows, without the pixels that a trigger relies on."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.data.streaming import Images
from clipmend.model.clip import Clip, embed_images

_BLOCK = 4096  # images of 32 pixels made into views at once, 50 MB as floats; fewer larger ones
_BATCH = 256  # that are embedded together: what stands beside an image may change its last bit


def zoomed_similarity(
    model: Clip,
    images: Images,
    texts: Float[Tensor, "samples dim"],
    generator: torch.Generator,
    *,
    scale: tuple[float, float],
    views: int,
) -> Float[Tensor, " samples"]:
    """Return the cosine of each image with its text, the mean over zoomed views; see ``zoomed``."""
    # All places are drawn first: blocks do not show, and an image is asked for once.
    drawn = [torch.rand(len(images), 3, generator=generator) for _ in range(views)]
    cosine, first = torch.zeros(len(images)), 0
    for block in images.split(_block(images.shape[-1])):
        rows = slice(first, first + len(block))
        for places in drawn:
            shown = zoomed(block.to(model.device), places[rows].to(model.device), scale=scale)
            embeds = embed_images(model, shown, batch_size=_BATCH)
            cosine[rows] += (embeds * texts[rows]).sum(dim=1)
        first = rows.stop
    return cosine / views


def _block(side: int) -> int:
    return max(1, _BLOCK * 32**2 // (side**2 * _BATCH)) * _BATCH


def zoomed(
    images: UInt8[Tensor, "batch 3 height width"],
    drawn: Float[Tensor, "batch 3"],
    *,
    scale: tuple[float, float],
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return a mirrored crop of each image at full size.

    Args:
        drawn: in [0, 1): what decides the crop's area, and its place in x and in y.
        scale: the smallest and the largest area of a crop, as shares of the image's.
    """
    low, high = scale
    side = (low + (high - low) * drawn[:, 0]).sqrt()
    # Coordinates run from -1 to 1: a crop's center may lie this far from the middle.
    shift = (2 * drawn[:, 1:] - 1) * (1 - side)[:, None]
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = -side, side
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return views.round().clamp(0, 255).to(torch.uint8)
