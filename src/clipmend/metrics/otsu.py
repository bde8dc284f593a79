"""Otsu's threshold: the split of scores in two groups with the least variance inside them."""

import torch
from jaxtyping import Float
from torch import Tensor

_BINS = 256


def outstanding(score: Float[Tensor, " suspects"]) -> int:
    """Return the number of scores above Otsu's threshold (Otsu 1979), or of all if they are equal.

    The threshold maximizes the variance between the scores on its two sides.
    """
    if not len(score):
        return 0
    low, high = float(score.min()), float(score.max())
    if low == high:
        return len(score)
    # A grid of thresholds is exact enough for a count, and needs one vectorized comparison.
    edges = torch.linspace(low, high, _BINS + 1)[1:-1]
    above = score[None] > edges[:, None]
    share = above.float().mean(dim=1)
    total = float(score.mean())
    mean = (above * score).sum(dim=1) / above.sum(dim=1).clamp(min=1)
    between = share * (mean - total).square() / (1 - share).clamp(min=1e-6)
    return int(above[between.argmax()].sum())
