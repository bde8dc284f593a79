"""BadNet: a small fixed patch (Gu et al. 2017, arXiv:1708.06733)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.attacks.attack import Fitted, dirty_label_rows
from clipmend.errors import AttackError
from clipmend.seeds import stream
from clipmend.settings import Count, Natural, PositiveFraction


@dataclass(frozen=True)
class BadNet:
    """Replaces a square near the lower right corner by one fixed patch of coloured noise.

    Differs from CleanCLIP's code, which redraws the noise for every image, at a random place:
    there the mark is "a noisy square" and no pattern.

    Attributes:
        poison_rate: share of the training pairs that carry the trigger.
        size: side of the patch in pixels.
        margin: pixels between the patch and the image's right and lower edges.
    """

    poison_rate: PositiveFraction = 0.03
    size: Count = 6
    margin: Natural = 1

    def fit(self, image_size: int, seed: int) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size), uniform in [0, 1].

        Raises:
            AttackError: the patch does not fit into the image.
        """
        if self.size + self.margin > image_size:
            raise AttackError(
                f"A BadNet patch of {self.size} pixels, {self.margin} from the edge, does not fit "
                f"into images of {image_size}; `size` + `margin` may be {image_size} at most."
            )
        drawn = torch.rand(3, self.size, self.size, generator=stream(seed, "trigger/badnet"))
        return {"patch": drawn}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the patch in the lower right corner."""
        triggered = images.clone()
        bottom, right = (side - self.margin for side in images.shape[-2:])
        triggered[..., bottom - self.size : bottom, right - self.size : right] = fitted["patch"]
        return triggered

    def rows(
        self, is_target: Bool[Tensor, " samples"], generator: torch.Generator
    ) -> Int[Tensor, " poisoned"]:
        """Return rows of other classes, drawn (dirty label)."""
        return dirty_label_rows(is_target, self.poison_rate, generator)
