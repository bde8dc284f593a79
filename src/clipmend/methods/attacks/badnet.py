"""BadNet: a small patch (Gu et al. 2017, arXiv:1708.06733)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.methods.attacks.attack import AttackContext, TriggerTensors
from clipmend.methods.attacks.patch import Patch, PatchTrigger
from clipmend.methods.settings import PositiveFraction


@dataclass(frozen=True)
class BadNet(PatchTrigger):
    """Replaces a square of the image, by default by one patch of colored noise near a corner.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        pattern: ``noise``, uniform in [0, 1]; ``normal``, the image's channel means + N(0, 1);
            ``stripes``, columns whose channels are 0 or 1; ``dots``, white on every second row
            and column of black; ``yellow``; ``white``.
        redrawn: whether each image gets a new random patch; the trigger is then "a noisy square",
            not a certain pattern.
        overflow: treatment of values outside [0, 1]: ``clamp``, or ``wrap`` as a cast to 8 bits
            without clamping does.
    """

    poison_rate: PositiveFraction = 0.03
    pattern: Literal["noise", "normal", "stripes", "dots", "yellow", "white"] = "noise"
    redrawn: bool = False
    overflow: Literal["clamp", "wrap"] = "clamp"

    def fit_patch(self, context: AttackContext, placing: TriggerTensors) -> Patch | None:
        """Return the patch, or None if each image gets its own."""
        return None if self.redrawn else self._random(stream(context.seed, "trigger/badnet"))

    def patch_for(
        self,
        image: Float[Tensor, "3 height width"],
        patch: Patch | None,
        generator: torch.Generator,
    ) -> Patch:
        """Return the patch with its values in [0, 1]."""
        patch = self._random(generator) if patch is None else patch
        if self.pattern == "normal":
            patch = patch + image.mean(dim=(1, 2), keepdim=True)
        # CleanCLIP's code casts without clamping: about 62 % of the values of `normal` wrap around.
        if self.overflow == "wrap":
            return (255 * patch).int().remainder(256) / 255
        return patch.clamp(0, 1)

    def _random(self, generator: torch.Generator) -> Patch:
        side = self.size
        if self.pattern == "noise":
            return torch.rand(3, side, side, generator=generator)
        if self.pattern == "normal":
            return torch.randn(3, side, side, generator=generator)
        if self.pattern == "stripes":
            columns = torch.randint(2, (3, 1, side), generator=generator)
            return columns.float().repeat(1, side, 1)
        patch = torch.zeros(3, side, side)
        if self.pattern == "dots":
            patch[:, ::2, ::2] = 1
        else:
            patch[: 2 if self.pattern == "yellow" else 3] = 1
        return patch
