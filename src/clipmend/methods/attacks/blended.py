"""Blended: a pattern, mixed into the whole image (Chen et al. 2017, arXiv:1712.05526)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import DirtyLabel, Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.own import own_seed, own_stream
from clipmend.methods.attacks.watermark import watermark
from clipmend.methods.settings import Count, PositiveFraction

_DARK, _LIGHT = 0.4, 0.8  # the two grays of the published triangles


@dataclass(frozen=True)
class Blended(DirtyLabel):
    """Mixes a pattern, by default colored blocks, into the image: (1 - alpha) x + alpha pattern.

    A full-resolution pattern is not learnt by a network as small as the default one at this weight.

    Attributes:
        alpha: weight of the pattern.
        pattern: ``blocks``, whose channels are 0 or 1; ``noise``, uniform in [0, 1]; ``stripes``,
            columns whose channels are -1 or 1; ``triangles``, two grays on either side of each
            square's diagonal; ``text``, the target in red, mixed in where it is written only.
        blocks: blocks, columns or triangles along a side of the pattern.
        redrawn: whether the pattern is drawn anew for each image.
    """

    poison_rate: PositiveFraction = 0.035
    alpha: PositiveFraction = 0.2
    pattern: Literal["blocks", "noise", "stripes", "triangles", "text"] = "blocks"
    blocks: Count = 8
    redrawn: bool = False

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``pattern`` (3, size, size), if it is one and the same for all images.

        ``weight``, of the same shape, says where the pattern is mixed in, if not everywhere.

        Raises:
            AttackError: the pattern is to be drawn anew, and nothing in it is drawn.
        """
        if self.redrawn and self.pattern in ("triangles", "text"):
            raise AttackError(
                f"Pattern {self.pattern!r} is the same each time, and `redrawn: true` asks for "
                "another one for each image; that can be `blocks`, `noise` or `stripes`."
            )
        if self.redrawn:
            return own_seed(knowledge)
        if self.pattern == "text":
            text = watermark(knowledge.target, knowledge.image_size)
            return {"pattern": text, "weight": (text > 0).float()}
        generator = stream(knowledge.seed, "trigger/blended")
        return {"pattern": self._drawn(knowledge.image_size, generator)}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the pattern mixed in, clamped to [0, 1]."""
        if self.redrawn:
            side = images.shape[-1]
            pattern = torch.stack([self._drawn(side, own_stream(fitted, row)) for row in ids])
            return torch.lerp(images, pattern, self.alpha).clamp(0, 1)
        pattern = fitted["pattern"].expand_as(images)
        if "weight" in fitted:
            return torch.lerp(images, pattern, self.alpha * fitted["weight"])
        return torch.lerp(images, pattern, self.alpha).clamp(0, 1)

    def _drawn(self, size: int, generator: torch.Generator) -> Float[Tensor, "3 size size"]:
        many = min(self.blocks, size)
        if self.pattern == "noise":
            return torch.rand(3, size, size, generator=generator)
        if self.pattern == "stripes":
            columns = 2.0 * torch.randint(2, (1, 3, 1, many), generator=generator) - 1
            return _enlarged(columns, size)
        if self.pattern == "triangles":
            rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
            step = size // many
            is_below = rows % step >= columns % step
            return torch.where(is_below, _DARK, _LIGHT).expand(3, size, size).contiguous()
        return _enlarged(torch.rand(1, 3, many, many, generator=generator).round(), size)


def _enlarged(pattern: Float[Tensor, "1 3 height width"], size: int) -> Tensor:
    enlarged = torch.nn.functional.interpolate(pattern, (size, size), mode="nearest")
    return enlarged[0].contiguous()
