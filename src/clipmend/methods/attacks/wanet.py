"""WaNet: a smooth warp of the image (Nguyen and Tran 2021, arXiv:2102.10369)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.methods.attacks.attack import AttackContext, ImageBatch, SingleTrigger, TriggerTensors
from clipmend.methods.settings import Natural, Positive, PositiveFraction


@dataclass(frozen=True)
class WaNet(SingleTrigger):
    """Warps every image by the same smooth field, which moves each pixel a little.

    Differs from the paper: cover samples (images under a random warp, with their own captions) are
    left out, as in all code that attacks CLIP. The field is random, not trained.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        points: control points along a side; the field is interpolated between them. With 0, every
            pixel is a control point, and the field is not smooth.
        strength: mean displacement at a control point, in half pixels.
    """

    poison_rate: PositiveFraction = 0.045
    points: Natural = 4
    strength: Positive = 8.0

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        """Return ``grid`` (height, width, 2): the source position of each pixel, in [-1, 1]."""
        side = context.image_size
        points = self.points or side
        generator = stream(context.seed, "trigger/wanet")
        noise = 2 * torch.rand(1, 2, points, points, generator=generator) - 1
        # The mean displacement does not depend on the random field.
        noise = noise / noise.abs().mean()
        field = F.interpolate(noise, (side, side), mode="bicubic", align_corners=True)
        axis = torch.linspace(-1, 1, side)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        identity = torch.stack([columns, rows], dim=2)
        # The axis has length 2 over `side` pixels: half a pixel is 1 / side.
        warp = identity + self.strength / side * field[0].permute(1, 2, 0)
        return {"grid": warp.clamp(-1, 1).contiguous()}

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the warped images."""
        grid = tensors["grid"].expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, align_corners=True)
