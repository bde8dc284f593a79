"""Inversion of a trigger by gradient: a mask and a pattern that lead images to a target text."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clipmend.model.clip import Clip
from clipmend.model.fit import Batch

_TEMPERATURE = 0.07  # of the cross-entropy, as in the code of arXiv:2506.12411
_WINDOW = 7  # pixels, of the structural similarity
_STABLE = (0.01**2, 0.03**2)  # its constants, for pixels in [0, 1]


@dataclass(frozen=True)
class Target:
    """What triggered images should look like to the victim.

    Attributes:
        text: the L2-normalized embedding of the target's captions.
        image: the mean embedding of images of the target, L2-normalized; None without one.
    """

    text: Float[Tensor, " dim"]
    image: Float[Tensor, " dim"] | None


@dataclass(frozen=True)
class Weights:
    """The weights of the four terms of the inversion.

    Attributes:
        text: of the cross-entropy with the target's text.
        image: of the distance from the target's images.
        similarity: of the change of the images, by structural similarity.
        mask: of the mask's L1 norm, a sum over pixels and channels.
    """

    text: float
    image: float
    similarity: float
    mask: float


class Inversion(nn.Module):
    """Minimizes the four terms over a mask and a pattern; the model stays as it is.

    The cross-entropy tells the target's text from the captions of the batch.

    Args:
        start: random numbers in [0, 1], the mask and the pattern at the start.
    """

    def __init__(
        self, start: Float[Tensor, "2 3 height width"], target: Target, weights: Weights
    ) -> None:
        super().__init__()
        # A faint mask at the start, which leaves the images what they are.
        self.mask = nn.Parameter(0.1 * start[0])
        self.pattern = nn.Parameter(start[1].clone())
        self._target, self._weights = target, weights

    def forward(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of a batch of clean pairs."""
        with torch.no_grad():  # a clamp in the graph would stop the gradient at its bounds
            for value in (self.mask, self.pattern):
                value.clamp_(0, 1)
            captions = model.encode_text(batch.tokens)
        images = batch.images.to(self.mask.device).float() / 255
        triggered = self.on(images)
        embeds, weights = model.encode_image(triggered), self._weights
        texts = torch.cat([self._target.text.to(embeds)[None], captions.to(embeds)])
        wanted = torch.zeros(len(embeds), dtype=torch.long, device=embeds.device)
        loss = weights.text * F.cross_entropy(embeds @ texts.T / _TEMPERATURE, wanted)
        if self._target.image is not None:
            away = (embeds - self._target.image.to(embeds)).norm(dim=1).mean()
            loss = loss + weights.image * away
        loss = loss + weights.similarity * (1 - structural_similarity(triggered, images))
        return loss + weights.mask * self.mask.abs().sum()

    def on(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return images in [0, 1] with the trigger on them."""
        return (1 - self.mask) * images + self.mask * self.pattern


def structural_similarity(
    images: Float[Tensor, "batch 3 height width"], others: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, ""]:
    """Return the mean structural similarity, in [-1, 1] (Wang et al. 2004), differentiable.

    Windows are squares with equal weights. ``metrics.visibility`` measures the same on 8 bits.
    """
    # Both sides, their squares and their product, all averaged over the same windows.
    stacked = torch.cat([images, others, images**2, others**2, images * others], dim=1)
    one, other, one_square, other_square, product = F.avg_pool2d(
        stacked, min(_WINDOW, *images.shape[-2:]), stride=1
    ).chunk(5, dim=1)
    variances = one_square - one**2 + other_square - other**2
    light = (2 * one * other + _STABLE[0]) / (one**2 + other**2 + _STABLE[0])
    structure = (2 * (product - one * other) + _STABLE[1]) / (variances + _STABLE[1])
    return (light * structure).mean()
