"""Cognitive distillation: how little of an image suffices (Huang et al. 2023, arXiv:2301.10908)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.detector import Suspicion, Victim
from clipmend.methods.settings import Count, NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks

_BETAS = (0.1, 0.1)  # of Adam, as published: the fill changes at every step, old gradients mislead


@dataclass(frozen=True)
class CognitiveDistillation:
    """Scores a pair by how much of its image can be painted over without moving its embedding.

    For each image a mask in [0, 1] is fitted, one value a pixel: where it is 0, a color drawn
    anew at every step shows instead. It minimizes the distance of the embedding from that of
    the whole image (mean absolute difference of its components), + ``gamma`` sum of the mask,
    + ``beta`` mean squared difference of neighboring values. A trigger alone decides where its
    image lies, so that the mask of a triggered image is small.

    Differs from the paper: embeddings are normalized. The settings are those of
    arXiv:2502.01385, for images of 224 pixels; its code does not turn the sign of the
    size before it takes it as a suspicion, which is done here, as arXiv:2301.10908 has it.

    Attributes:
        lr: of Adam, on the inverse hyperbolic tangent of twice the mask minus one.
        gamma: weight of the mask's size.
        beta: weight of its total variation.
        steps: of Adam, an image.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    lr: Positive = 0.1
    gamma: NonNegative = 1e-3
    beta: NonNegative = 100.0
    steps: Count = 100
    batch_size: Count = 256

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Suspicion:
        """Return the suspicion: images of which little suffices are suspect."""
        model = victim.model.frozen_copy()  # frozen: only masks get gradients
        batches = train.images.split(self.batch_size)
        shown = track(batches, description=hooks.label, transient=True)
        kept = torch.cat([self._distil(model, batch, generator).cpu() for batch in shown])
        return Suspicion(-kept.mean(dim=(1, 2, 3)))

    def _distil(
        self, model: Clip, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> Float[Tensor, "batch 1 height width"]:
        pixels = images.to(model.device).float() / 255
        whole = model.encode_image(pixels)
        raw = torch.ones_like(pixels[:, :1]).requires_grad_()
        optimizer = torch.optim.Adam([raw], lr=self.lr, betas=_BETAS)
        for _ in range(self.steps):
            color = torch.rand(len(images), 3, 1, 1, generator=generator).to(pixels)
            mask = _mask(raw)
            part = model.encode_image(pixels * mask + color * (1 - mask))
            moved = (part - whole).abs().mean(dim=1)
            size = mask.sum(dim=(1, 2, 3))
            # Summed, not averaged: an image's mask does not depend on how many it is fitted with.
            loss = (moved + self.gamma * size + self.beta * total_variation(mask)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return _mask(raw.detach())


def _mask(raw: Tensor) -> Tensor:
    return (raw.tanh() + 1) / 2


def total_variation(mask: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
    """Return the squared differences of neighbors, across and down, summed over each mask.

    Over the number of pixels, as published, so that the weight does not depend on the size.
    """
    across, down = mask.diff(dim=3).square(), mask.diff(dim=2).square()
    summed = across.sum(dim=(1, 2, 3)) + down.sum(dim=(1, 2, 3))
    return summed / mask[0].numel()
