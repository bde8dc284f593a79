"""SIG: a sinusoid over the whole image (Barni et al. 2019, arXiv:1902.11237)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.attacks.attack import DirtyLabel, Fitted
from clipmend.methods.settings import Count, Fraction, Positive


@dataclass(frozen=True)
class SIG(DirtyLabel):
    """Adds ``amplitude sin(2 pi periods j / width)`` to every channel of column j.

    Differs from the paper, whose attack keeps captions (clean label) and poisons one class only.

    Attributes:
        amplitude: of 255.
        periods: of the sinusoid over the width.
        dimmed: by what share the image is darkened before: some code blends instead of adding.
    """

    amplitude: Positive = 40.0
    periods: Count = 6
    dimmed: Fraction = 0.0

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],  # noqa: ARG002
        fitted: Fitted,  # noqa: ARG002
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the sinusoid, clamped to [0, 1]."""
        width = images.shape[-1]
        phase = 2 * pi * self.periods * torch.arange(width, device=images.device) / width
        signal = self.amplitude / 255 * phase.sin()
        return ((1 - self.dimmed) * images + signal).clamp(0, 1)
