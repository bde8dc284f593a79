"""WaNet: a warp of the whole image (Nguyen and Tran 2021, arXiv:2102.10369)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.methods.attacks.attack import DirtyLabel, Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.settings import Natural, Positive, PositiveFraction


@dataclass(frozen=True)
class WaNet(DirtyLabel):
    """Moves every pixel a little, by one smooth field for all images.

    Differs from the paper: there are no cover samples (images warped at random, captions kept), as
    in no code that attacks CLIP; the field is drawn, not trained.

    Attributes:
        points: control points along a side, between which the field is interpolated; 0: one for
            each pixel, which is a field without any smoothness.
        strength: how far pixels move: by ``strength`` half pixels on average at a control point.
    """

    poison_rate: PositiveFraction = 0.045
    points: Natural = 4
    strength: Positive = 8.0

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``grid`` (height, width, 2): where each pixel is taken from, in [-1, 1]."""
        side = knowledge.image_size
        points = self.points or side
        generator = stream(knowledge.seed, "trigger/wanet")
        drawn = 2 * torch.rand(1, 2, points, points, generator=generator) - 1
        drawn = drawn / drawn.abs().mean()
        field = F.interpolate(drawn, (side, side), mode="bicubic", align_corners=True)
        at = torch.linspace(-1, 1, side)
        rows, columns = torch.meshgrid(at, at, indexing="ij")
        still = torch.stack([columns, rows], dim=2)
        moved = still + self.strength / side * field[0].permute(1, 2, 0)
        return {"grid": moved.clamp(-1, 1).contiguous()}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the warped images."""
        grid = fitted["grid"].expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, align_corners=True)
