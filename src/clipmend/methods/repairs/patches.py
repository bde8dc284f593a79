"""Which patches of an image carry its tie: mask one, and see what is lost. For ViTs."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from clipmend.errors import ModelError
from clipmend.model.clip import Clip, embed_images


def telling_patches(
    model: Clip,
    images: UInt8[Tensor, "samples 3 height width"],
    directions: Float[Tensor, "samples dim"],
    *,
    keep: int,
) -> Bool[Tensor, "samples 1 height width"]:
    """Return where the ``keep`` patches lie whose masking lowers the cosine the most.

    A masked patch has the mean color of its image.

    Raises:
        ModelError: the image tower does not see its images in patches.
    """
    side = patch_side(model)
    color = images.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    places = _places(images.shape[-2], images.shape[-1], side)
    cosines = []
    for place in places:
        masked = torch.where(place, color, images)
        cosines.append((embed_images(model, masked) * directions).sum(dim=1))
    chosen = torch.stack(cosines, dim=1).argsort(dim=1, stable=True)[:, :keep]
    return places[chosen].any(dim=1)


def patch_side(model: Clip) -> int:
    """Return the side of the image tower's patches in pixels.

    Raises:
        ModelError: it has none.
    """
    vision = model.config["model_cfg"]["vision_cfg"]
    if not isinstance(vision.get("layers"), int) or "patch_size" not in vision:
        raise ModelError(
            "Patches cannot be unlearned: this image tower does not see its images in patches; "
            "allowed are ViTs. Set `patches: 0`."
        )
    return int(vision["patch_size"])


def _places(height: int, width: int, side: int) -> Bool[Tensor, "patches 1 height width"]:
    """Return a mask for each patch, row by row."""
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    places = torch.zeros(len(corners), 1, height, width, dtype=torch.bool)
    for mask, (top, left) in zip(places, corners, strict=True):
        mask[:, top : top + side, left : left + side] = True
    return places
