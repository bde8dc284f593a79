"""Means over seeds, with the uncertainty that so few seeds leave."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return the Student-t interval of the mean of ``values``; None for a single value.

    One seed says nothing of how seeds differ: no interval is better than one of width nought.
    """
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def clipped(interval: tuple[float, float]) -> tuple[float, float]:
    """Return the part of the interval in which a fraction can lie."""
    low, high = interval
    return max(low, 0.0), min(high, 1.0)
