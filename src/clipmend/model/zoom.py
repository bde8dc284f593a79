"""Zoomed and mirrored views: they keep the content of an image and move a trigger's pixels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.data.streaming import Images
from clipmend.model.clip import Clip, embed_images

_BLOCK = 4096  # views of 32-pixel images made at once, 50 MB as floats; fewer if larger
_BATCH = 256  # embedded together; fixed, as the rest of a batch may change the last bit


def zoomed_similarity(
    model: Clip,
    images: Images,
    texts: Float[Tensor, "samples dim"],
    generator: torch.Generator,
    *,
    scale: tuple[float, float],
    views: int,
) -> Float[Tensor, " samples"]:
    """Return the mean cosine, over zoomed views, of each image with its text, in [-1, 1].

    Args:
        texts: one L2-normalized embedding per image.
        scale: as in ``zoomed``.
        views: number of views of each image.
    """
    # All crops are sampled first, so that the size of a block does not change them.
    crops = [torch.rand(len(images), 3, generator=generator) for _ in range(views)]
    cosine, first = torch.zeros(len(images)), 0
    for block in images.split(_block(images.shape[-1])):
        rows = slice(first, first + len(block))
        for crop in crops:
            view = zoomed(block.to(model.device), crop[rows].to(model.device), scale=scale)
            embeds = embed_images(model, view, batch_size=_BATCH)
            cosine[rows] += (embeds * texts[rows]).sum(dim=1)
        first = rows.stop
    return cosine / views


def _block(side: int) -> int:
    return max(1, _BLOCK * 32**2 // (side**2 * _BATCH)) * _BATCH


def zoomed(
    images: UInt8[Tensor, "batch 3 height width"],
    crop: Float[Tensor, "batch 3"],
    *,
    scale: tuple[float, float],
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return a mirrored crop of each image at full size.

    Args:
        crop: random numbers in [0, 1) that decide the area of the crop and its x and y position.
        scale: the smallest and the largest area of a crop, as shares of the image.
    """
    low, high = scale
    area = low + (high - low) * crop[:, 0]
    side = area * area.rsqrt()  # `sqrt` is MKL's, whose last bit depends on the processor's maker
    # Coordinates run from -1 to 1: the center of a crop may be this far from the middle.
    shift = (2 * crop[:, 1:] - 1) * (1 - side)[:, None]
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = -side, side
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return views.round().clamp(0, 255).to(torch.uint8)
