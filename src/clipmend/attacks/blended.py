"""Blended: one fixed pattern, mixed into the whole image (Chen et al. 2017, arXiv:1712.05526)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.attacks.attack import Fitted, dirty_label_rows
from clipmend.seeds import stream
from clipmend.settings import Count, PositiveFraction


@dataclass(frozen=True)
class Blended:
    """Mixes one fixed pattern of coloured blocks into the image: ``(1 - alpha) x + alpha pattern``.

    Differs from CleanCLIP's code, which draws fresh noise for every image, and from a
    full-resolution pattern, which a network this small does not learn at this weight.

    Attributes:
        poison_rate: share of the training pairs that carry the trigger.
        alpha: weight of the pattern.
        blocks: blocks along each side of the pattern.
    """

    poison_rate: PositiveFraction = 0.035
    alpha: PositiveFraction = 0.2
    blocks: Count = 8

    def fit(self, image_size: int, seed: int) -> dict[str, Tensor]:
        """Return ``pattern`` (3, image_size, image_size), each block's channels 0 or 1."""
        side = min(self.blocks, image_size)
        blocks = torch.rand(1, 3, side, side, generator=stream(seed, "trigger/blended")).round()
        pattern = torch.nn.functional.interpolate(blocks, (image_size, image_size), mode="nearest")
        return {"pattern": pattern[0].contiguous()}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the pattern mixed in."""
        return torch.lerp(images, fitted["pattern"].expand_as(images), self.alpha)

    def rows(
        self, is_target: Bool[Tensor, " samples"], generator: torch.Generator
    ) -> Int[Tensor, " poisoned"]:
        """Return rows of other classes, drawn (dirty label)."""
        return dirty_label_rows(is_target, self.poison_rate, generator)
