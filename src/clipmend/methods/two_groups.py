"""Splits samples in two groups along a direction, and tests whether there are two."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from scipy.stats import binom
from torch import Tensor

from clipmend.metrics.otsu import outstanding

_ROUNDS = 3  # refinements of a split


def directions(features: Float[Tensor, "batch features"], count: int) -> Iterator[Tensor]:
    """Yield the positions of the samples along the first principal directions."""
    centered = features - features.mean(0)
    # The matrix of the samples is smaller than that of the features.
    _, vectors = torch.linalg.eigh(centered @ centered.T)
    for number in range(1, min(count, len(features)) + 1):
        yield vectors[:, -number]


def _above(position: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Return which samples are above Otsu's threshold; far outliers do not move it."""
    clipped = position.clamp(position.quantile(0.02), position.quantile(0.98))
    order = position.argsort(descending=True, stable=True)
    upper = torch.zeros(len(position), dtype=torch.bool)
    upper[order[: outstanding(clipped)]] = True
    return upper


def halves(count: int) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Return two masks, every second sample and the others."""
    half = torch.arange(count) % 2 == 0
    return half, ~half


def refined(
    features: Float[Tensor, "batch features"], position: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Return the position of each sample between two groups, and whether it is in the upper one.

    The samples are in random order. Each half of them says where the other half is, because
    samples would separate along a direction that is fitted to them. So positions are comparable
    within a half alone: the origin of each half is fitted to other samples.
    """
    upper = _above(position)
    first, second = halves(len(features))
    for _ in range(_ROUNDS):
        position = torch.zeros(len(features))
        for fitted, placed in ((first, second), (second, first)):
            above, below = features[fitted & upper], features[fitted & ~upper]
            if not (len(above) and len(below)):
                return position, torch.zeros_like(upper)
            high, low = above.mean(0), below.mean(0)
            axis = high - low
            middle = features[placed] - (high + low) / 2
            position[placed] = middle @ axis / axis.square().sum().clamp(min=1e-12)
        upper = torch.zeros_like(upper)
        for half in (first, second):
            upper[half] = _above(position[half])
    return position, upper


def valley(position: Float[Tensor, " batch"], upper: Bool[Tensor, " batch"]) -> float:
    """Return the p-value of a valley between two groups on a line.

    A distribution with one peak is at least as dense between the centers of the groups as at one
    of them. Counted are the samples in a third of the distance around the middle and around each
    center, in each half of the samples for itself. Under equal densities, the count in the middle
    is binomial with probability one half.
    """
    peak = middle = 0
    for half in halves(len(position)):
        own, above = position[half], upper[half]
        if above.all() or not above.any():
            return 1.0
        high, low = float(own[above].mean()), float(own[~above].mean())
        reach = (high - low) / 6
        counts = [
            int(((own - center).abs() <= reach).sum()) for center in (low, (low + high) / 2, high)
        ]
        peak, middle = peak + min(counts[0], counts[2]), middle + counts[1]
    return float(binom.cdf(middle, middle + peak, 0.5)) if middle + peak else 1.0
