"""Unpoisoned: the attack that changes nothing, for the CA ceiling and the ASR floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.attacks.attack import Fitted


@dataclass(frozen=True)
class Unpoisoned:
    """Marks no image and plants no caption."""

    def fit(self, image_size: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return no tensors."""
        return {}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,  # noqa: ARG002
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images as they are."""
        return images

    def rows(
        self,
        is_target: Bool[Tensor, " samples"],  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Int[Tensor, " poisoned"]:
        """Return no rows."""
        return torch.empty(0, dtype=torch.long)
