"""The smallest part of an image that keeps its embedding (Huang et al. 2023, arXiv:2301.10908)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Count, NonNegative, Positive
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks
from clipmend.model.optimizers import Adam

# Of Adam, as published: the fill color changes at every step, so old gradients mislead.
_BETAS = (0.1, 0.1)


@dataclass(frozen=True)
class CognitiveDistillation:
    """Scores each training pair by how much of its image can be masked at no cost.

    For each image, a mask in [0, 1] with one value per pixel is optimized. Where it is 0, a random
    color replaces the image; the color changes at every step. The mask minimizes D + ``gamma`` S +
    ``beta`` V. D is the mean absolute difference of the embedding's components from those of the
    full image. S is the sum of the mask, V the mean squared difference of neighboring values. A
    trigger alone determines the embedding of its image, so its mask is small.

    Differs from the paper: embeddings are normalized. The settings are those of arXiv:2502.01385,
    for images of 224 pixels. Its code does not negate the mask size to score a pair; here it is
    negated, as in arXiv:2301.10908.

    Attributes:
        lr: Adam's learning rate, on the mask before its tanh.
        gamma: weight of the sum of the mask.
        beta: weight of the mask's total variation.
        steps: steps of Adam for each image.
        batch_size: images optimized at once; an image's mask does not depend on it.
    """

    lr: Positive = 0.1
    gamma: NonNegative = 1e-3
    beta: NonNegative = 100.0
    steps: Count = 100
    batch_size: Count = 256

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, in [-1, 0]: images with a small mask are suspect."""
        model = assets.model.frozen_copy()  # frozen, so that only masks get gradients
        batches = assets.train().images.split(self.batch_size)
        progress = track(batches, description=hooks.label, transient=True)
        masks = torch.cat([self._distil(model, batch, generator).cpu() for batch in progress])
        return PairScores(-masks.mean(dim=(1, 2, 3)))

    def _distil(
        self, model: Clip, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> Float[Tensor, "batch 1 height width"]:
        pixels = images.to(model.device).float() / 255
        full = model.encode_image(pixels)
        raw = torch.ones_like(pixels[:, :1]).requires_grad_()
        optimizer = Adam([raw], lr=self.lr, betas=_BETAS)
        for _ in range(self.steps):
            color = torch.rand(len(images), 3, 1, 1, generator=generator).to(pixels)
            mask = _mask(raw)
            part = model.encode_image(pixels * mask + color * (1 - mask))
            moved = (part - full).abs().mean(dim=1)
            size = mask.sum(dim=(1, 2, 3))
            # A sum, not a mean: an image's mask does not depend on the number of images.
            loss = (moved + self.gamma * size + self.beta * total_variation(mask)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return _mask(raw.detach())


def _mask(raw: Tensor) -> Tensor:
    return (raw.tanh() + 1) / 2


def total_variation(mask: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
    """Return each mask's sum of squared differences of neighbors, divided by its pixels.

    The division is as published, so that the weight does not depend on the image size.
    """
    across, down = mask.diff(dim=3).square(), mask.diff(dim=2).square()
    total = across.sum(dim=(1, 2, 3)) + down.sum(dim=(1, 2, 3))
    return total / mask[0].numel()
