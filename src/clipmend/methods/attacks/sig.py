"""SIG: a sinusoid over all columns of the image (Barni et al. 2019, arXiv:1902.11237)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch

from clipmend.methods.attacks.attack import ImageBatch, SingleTrigger, TriggerTensors
from clipmend.methods.settings import Count, Fraction, Positive, PositiveFraction


@dataclass(frozen=True)
class SIG(SingleTrigger):
    """Adds ``amplitude sin(2 pi periods j / width)`` to every channel of column j.

    Differs from the paper, whose attack keeps captions (clean label) and poisons one class only.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        amplitude: amplitude of the sinusoid, in units of 1/255.
        periods: number of periods of the sinusoid over the image's width.
        dimmed: share by which the image is darkened before the sinusoid is added.
    """

    poison_rate: PositiveFraction = 0.03
    amplitude: Positive = 40.0
    periods: Count = 6
    dimmed: Fraction = 0.0  # some public code blends image and sinusoid instead of adding them

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images with the sinusoid, clamped to [0, 1]."""
        width = images.shape[-1]
        phase = 2 * pi * self.periods * torch.arange(width, device=images.device) / width
        signal = self.amplitude / 255 * phase.sin()
        return ((1 - self.dimmed) * images + signal).clamp(0, 1)
