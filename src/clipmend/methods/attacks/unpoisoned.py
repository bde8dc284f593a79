"""Unpoisoned: the attack that changes nothing, for the CA ceiling and the ASR floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.attacks.attack import Attack, Fitted, Planted
from clipmend.methods.attacks.knowledge import Knowledge


@dataclass(frozen=True)
class Unpoisoned(Attack):
    """Marks no image and plants no caption."""

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,  # noqa: ARG002
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images as they are."""
        return images

    def plant(self, knowledge: Knowledge) -> Planted:  # noqa: ARG002
        """Return no rows."""
        return Planted(torch.empty(0, dtype=torch.long), ())
