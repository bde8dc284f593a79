"""BadNet: a small patch (Gu et al. 2017, arXiv:1708.06733)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.methods.attacks.attack import DirtyLabel, Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.patch import Patch


@dataclass(frozen=True)
class BadNet(Patch, DirtyLabel):
    """Replaces a square of the image, by default by one patch of colored noise near a corner.

    Attributes:
        pattern: ``noise``, uniform in [0, 1]; ``normal``, the image's channel means + N(0, 1);
            ``stripes``, columns whose channels are 0 or 1; ``dots``, white ones on every second
            row and column of black; ``yellow``; ``white``.
        redrawn: whether the patch is drawn anew for each image: then the mark is "a noisy square"
            and no pattern.
        overflow: what becomes of values outside [0, 1]: an 8-bit cast that is not clamped wraps.
    """

    pattern: Literal["noise", "normal", "stripes", "dots", "yellow", "white"] = "noise"
    redrawn: bool = False
    overflow: Literal["clamp", "wrap"] = "clamp"

    @property
    def is_redrawn(self) -> bool:
        """Whether the patch is drawn anew for each image."""
        return self.redrawn

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size), if it is one and the same for all images.

        Raises:
            AttackError: the patch does not fit into the image.
        """
        own = self.own_fit(knowledge)
        if self.redrawn:
            return own
        return {"patch": self._drawn(stream(knowledge.seed, "trigger/badnet")), **own}

    def square(
        self, image: Float[Tensor, "3 height width"], fitted: Fitted, generator: torch.Generator
    ) -> Float[Tensor, "3 size size"]:
        """Return the patch, brought into [0, 1]."""
        patch = self._drawn(generator) if self.redrawn else fitted["patch"]
        if self.pattern == "normal":
            patch = patch + image.mean(dim=(1, 2), keepdim=True)
        if self.overflow == "wrap":
            return (255 * patch).int().remainder(256) / 255
        return patch.clamp(0, 1)

    def _drawn(self, generator: torch.Generator) -> Float[Tensor, "3 size size"]:
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
