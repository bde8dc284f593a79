"""Splits samples in two groups along a direction, and tests whether there are two.

Samples are given in random order, by their Gram matrix: the product of every two of them, around
their mean. It is smaller than their features, and it is all that splits and tests need.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from scipy.stats import binom
from torch import Tensor

from clipmend.metrics.otsu import outstanding

_ROUNDS = 8  # the most refinements of a split
_SPARE = 5  # directions beyond those that are asked for, which make the iteration converge
_POWER = 10  # steps of the iteration; a split is refined after it, so that a rough start will do
_FOLDS = 5  # parts of the samples in the test; each is placed by the others
_FAR = 0.02  # share of the samples on each side that are clipped before Otsu's threshold
_SCREENED = 0.01  # without a valley of this p-value between the halves, folds are not tried

Gram = Float[Tensor, "samples samples"]
Position = Float[Tensor, " samples"]
Mask = Bool[Tensor, " samples"]


def gram_of(features: Float[Tensor, "samples features"]) -> Gram:
    """Return the products of samples around their mean."""
    centered = features - features.mean(0)
    return centered @ centered.T


def splits(gram: Gram, count: int) -> Iterator[Mask]:
    """Yield which samples are in the upper group, for each of the first principal directions.

    Each half of the samples says where the other half is, until no sample changes its group.
    """
    for direction in _principal(gram, count).T:
        upper = _above(direction)
        for _ in range(_ROUNDS):
            before, upper = upper, torch.zeros_like(upper)
            for half, position in _halves(gram, before):
                upper[half] = _above(position)
            if torch.equal(upper, before):
                break
        yield upper


def valley(gram: Gram, upper: Mask, count: int) -> float:
    """Return the p-value of a valley between two groups.

    A distribution with one peak is at least as dense between the centers of the groups as at one
    of them. Counted are the samples in a third of the distance around the middle and around each
    center. Under equal densities, the count in the middle is binomial with probability one half.

    Samples separate along a direction that is fitted to them. So each part of the samples, a fold,
    is counted along a direction that was found without it.

    Args:
        upper: which samples are in the upper group.
        count: number of principal directions that are tried without a fold. The split that agrees
            best with ``upper`` is taken.
    """
    halves = [_counts(position, upper[half]) for half, position in _halves(gram, upper)]
    if _p_value(halves) > _SCREENED:
        return 1.0
    folds, number = [], torch.arange(len(gram)) % _FOLDS
    for rest in (number != fold for fold in range(_FOLDS)):
        found = list(splits(_centered(gram[rest][:, rest]), count))
        agreements = [_agreement(split, upper[rest]) for split in found]
        high = torch.zeros_like(upper)
        high[rest] = found[agreements.index(max(agreements))]
        position = _positions(gram, high, rest & ~high)[~rest]
        folds.append(_counts(position, _above(position)))
    return _p_value(folds)


def _principal(gram: Gram, count: int) -> Float[Tensor, "samples directions"]:
    """Return the first principal directions, approximately, by subspace iteration.

    An eigendecomposition finds all directions, and takes ten times as long.
    """
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(len(gram), min(count + _SPARE, len(gram)), generator=generator)
    for _ in range(_POWER):
        block, _ = torch.linalg.qr(gram @ block)
    _, vectors = torch.linalg.eigh(block.T @ gram @ block)
    directions: Tensor = (block @ vectors).flip(1)[:, :count]
    return directions


def _halves(gram: Gram, upper: Mask) -> Iterator[tuple[Mask, Position]]:
    """Yield each half of the samples, and their positions between the groups of the other half."""
    first = torch.arange(len(gram)) % 2 == 0
    for half in (first, ~first):
        yield half, _positions(gram, upper & ~half, ~upper & ~half)[half]


def _positions(gram: Gram, high: Mask, low: Mask) -> Position:
    """Return where all samples are between the means of two groups: -0.5 is low, 0.5 is high."""
    above, below = (group / group.sum().clamp(min=1) for group in (high, low))
    axis = gram @ (above - below)
    return (axis - (above + below) @ axis / 2) / ((above - below) @ axis).clamp(min=1e-12)


def _above(position: Position) -> Mask:
    """Return which samples are above Otsu's threshold; far outliers do not move it."""
    ranked, order = position.sort(descending=True, stable=True)
    far = round(_FAR * (len(ranked) - 1))
    upper = torch.zeros(len(position), dtype=torch.bool)
    upper[order[: outstanding(ranked.clamp(ranked[-1 - far], ranked[far]))]] = True
    return upper


def _counts(position: Position, upper: Mask) -> tuple[int, int]:
    """Return the numbers of samples in the middle between the groups, and at one center."""
    if upper.all() or not upper.any():
        return 0, 0
    high, low = float(position[upper].mean()), float(position[~upper].mean())
    near = [
        int(((position - center).abs() <= (high - low) / 6).sum())
        for center in (low, (low + high) / 2, high)
    ]
    return near[1], min(near[0], near[2])


def _p_value(counts: list[tuple[int, int]]) -> float:
    middle, peak = (sum(part) for part in zip(*counts, strict=True))
    return float(binom.cdf(middle, middle + peak, 0.5)) if middle + peak else 1.0


def _centered(gram: Gram) -> Gram:
    """Return the products of samples around their own mean."""
    return gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()


def _agreement(split: Mask, other: Mask) -> float:
    """Return how far two splits agree, whichever of their groups is the upper one."""
    return abs(float((split == other).float().mean()) - 0.5)
