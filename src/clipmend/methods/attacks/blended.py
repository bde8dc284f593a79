"""Blended: a pattern mixed into all pixels of the image (Chen et al. 2017, arXiv:1712.05526)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import (
    AttackContext,
    ImageBatch,
    SingleTrigger,
    TriggerTensors,
    image_seed,
    image_stream,
)
from clipmend.methods.settings import Count, PositiveFraction

_DARK, _LIGHT = 0.4, 0.8  # the two grays of the published triangles
_LARGEST = 200  # points of the largest font that is tried

Pattern = Float[Tensor, "3 size size"]


@dataclass(frozen=True)
class Blended(SingleTrigger):
    """Mixes a pattern into the image: (1 - alpha) x + alpha pattern.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        alpha: weight of the pattern.
        pattern: ``blocks``, colored blocks whose channels are 0 or 1; ``noise``, uniform in [0, 1];
            ``stripes``, columns whose channels are -1 or 1; ``triangles``, two grays on either
            side of each block's diagonal; ``text``, the target in red, mixed in only where the
            letters are.
        blocks: number of blocks, columns or triangles along a side of the pattern.
        redrawn: whether each image gets a new random pattern.
    """

    poison_rate: PositiveFraction = 0.035
    alpha: PositiveFraction = 0.2
    # A network as small as the default one does not learn a full-resolution pattern at this weight.
    pattern: Literal["blocks", "noise", "stripes", "triangles", "text"] = "blocks"
    blocks: Count = 8
    redrawn: bool = False

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        """Return ``pattern`` (3, size, size), unless each image gets its own.

        ``text`` has a ``weight`` of the same shape: 1 where the pattern is mixed in, 0 elsewhere.

        Raises:
            AttackError: ``redrawn`` is set, and the pattern has no random part.
        """
        if self.redrawn and self.pattern in ("triangles", "text"):
            raise AttackError(
                f"Pattern {self.pattern!r} is not random, so `redrawn: true` cannot give each "
                "image its own. Use `blocks`, `noise` or `stripes`, or `redrawn: false`."
            )
        if self.redrawn:
            return image_seed(context)
        if self.pattern == "text":
            text = text_pattern(context.target, context.image_size)
            return {"pattern": text, "weight": (text > 0).float()}
        generator = stream(context.seed, "trigger/blended")
        return {"pattern": self._random(context.image_size, generator)}

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images with the pattern mixed in, clamped to [0, 1]."""
        if self.redrawn:
            side = images.shape[-1]
            pattern = torch.stack([self._random(side, image_stream(tensors, row)) for row in ids])
        else:
            pattern = tensors["pattern"].expand_as(images)
        if "weight" in tensors:
            return torch.lerp(images, pattern, self.alpha * tensors["weight"])
        return torch.lerp(images, pattern, self.alpha).clamp(0, 1)

    def _random(self, size: int, generator: torch.Generator) -> Pattern:
        count = min(self.blocks, size)
        if self.pattern == "noise":
            return torch.rand(3, size, size, generator=generator)
        if self.pattern == "triangles":
            rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
            step = size // count
            is_below = rows % step >= columns % step
            return torch.where(is_below, _DARK, _LIGHT).expand(3, size, size).contiguous()
        if self.pattern == "stripes":
            coarse = 2.0 * torch.randint(2, (1, 3, 1, count), generator=generator) - 1
        else:
            coarse = torch.rand(1, 3, count, count, generator=generator).round()
        enlarged = torch.nn.functional.interpolate(coarse, (size, size), mode="nearest")
        return enlarged[0].contiguous()


def text_pattern(text: str, size: int) -> Pattern:
    """Return the text in red on black, centered, as large as the width allows; in [0, 1]."""
    canvas = Image.new("RGB", (size, size), "black")
    draw = ImageDraw.Draw(canvas)
    # Pillow's built-in font: a trigger must not depend on the fonts of a machine.
    fonts = [ImageFont.load_default(size=points) for points in range(4, _LARGEST)]
    fitting = [font for font in fonts if draw.textlength(text, font=font) <= size]
    font = fitting[-1] if fitting else fonts[0]
    draw.text((size / 2, size / 2), text, fill="red", font=font, anchor="mm")
    return torch.from_numpy(np.asarray(canvas).transpose(2, 0, 1).copy()).float() / 255
