"""Zoomed views, mirrored: what an image shows, without the pixels that a trigger relies on."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.clip.model import Clip, embed_images

_BLOCK = 4096  # images made into views at once: 50 MB at 32 pixels


def zoomed_embeds(
    model: Clip,
    images: UInt8[Tensor, "samples 3 height width"],
    generator: torch.Generator,
    *,
    scale: tuple[float, float],
) -> Float[Tensor, "samples dim"]:
    """Return the embedding of one zoomed view of each image; see ``zoomed``."""
    drawn = torch.rand(len(images), 3, generator=generator)  # all at once: blocks do not show
    embeds = []
    for block, places in zip(images.split(_BLOCK), drawn.split(_BLOCK), strict=True):
        views = zoomed(block.to(model.device), places.to(model.device), scale=scale)
        embeds.append(embed_images(model, views))
    return torch.cat(embeds)


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
    # Coordinates run from -1 to 1: a crop's centre may lie this far from the middle.
    shift = (2 * drawn[:, 1:] - 1) * (1 - side)[:, None]
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = -side, side
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return views.round().clamp(0, 255).to(torch.uint8)
