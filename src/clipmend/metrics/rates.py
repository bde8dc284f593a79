"""Rates of a model, each with its definition, its denominator and its interval."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist

from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.errors import MetricError

DEFINITIONS = {
    "clean_accuracy": "zero-shot top-1 accuracy on untouched test images",
    "clean_accuracy_top5": "zero-shot top-5 accuracy on untouched test images",
    "target_accuracy": "zero-shot top-1 accuracy on untouched test images of the target class",
    "attack_success_rate": (
        "share of triggered test images, of true classes other than the target, "
        "that are predicted as the target"
    ),
}


@dataclass(frozen=True)
class Rate:
    """A share of ``n`` with its Wilson interval; all but ``n`` are fractions in [0, 1]."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


def rate(hits: int, n: int, *, confidence: float = 0.95) -> Rate:
    """Return ``hits`` of ``n`` with the Wilson score interval (Wilson 1927).

    Written out, because importing scipy's takes most of a second in every job.

    Raises:
        MetricError: ``n`` is 0.
    """
    if n == 0:
        raise MetricError("A rate of 0 images is not defined.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = (hits + z**2 / 2) / (n + z**2)
    half = z * sqrt(hits * (n - hits) / n + z**2 / 4) / (n + z**2)
    low = 0.0 if hits == 0 else center - half  # exact where rounding would leave 1e-18
    high = 1.0 if hits == n else center + half
    return Rate(hits / n, low, high, n)


def clean_accuracy(
    cosines: Float[Tensor, "samples classes"],
    label: Int[Tensor, " samples"],
    *,
    top: int = 1,
    confidence: float = 0.95,
) -> Rate:
    """Return CA: the fraction of images whose class is among the ``top`` closest.

    Raises:
        MetricError: an image has no label (-1).
    """
    if (label < 0).any():
        raise MetricError(
            f"Accuracy is not defined: {int((label < 0).sum())} of {len(label)} images have no "
            "label among the classes."
        )
    closest = cosines.topk(min(top, cosines.shape[1]), dim=1).indices
    hits = (closest == label[:, None]).any(dim=1)
    return rate(int(hits.sum()), len(label), confidence=confidence)


def attack_success_rate(
    cosines: Float[Tensor, "samples classes"],
    label: Int[Tensor, " samples"],
    *,
    target_label: int,
    confidence: float = 0.95,
) -> Rate:
    """Return ASR: the fraction of triggered images that the model calls the target.

    Images whose true class already is the target are left out of the numerator *and* the
    denominator: they would count as successes of an attack that did nothing.

    Args:
        cosines: of the triggered images with the classes.
        label: each image's true class, before the trigger.
        target_label: the class that the attacker wants.

    Raises:
        MetricError: every image already belongs to the target class.
    """
    attacked = of_other_classes(label, target_label)
    hits = cosines[attacked].argmax(dim=1) == target_label
    return rate(int(hits.sum()), int(attacked.sum()), confidence=confidence)


def of_other_classes(label: Int[Tensor, " samples"], target_label: int) -> Bool[Tensor, " samples"]:
    """Return which images are of a class other than the target.

    Raises:
        MetricError: none is.
    """
    others = label != target_label
    if not others.any():
        raise MetricError(
            f"What an attack does is not defined: all {len(label)} images that it is measured on "
            "are of the target class; give the split images of other classes, or measure on more."
        )
    return others


@dataclass(frozen=True)
class Mean:
    """A mean over ``n`` images."""

    value: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """A number and its definition, as ``metrics.json`` states both."""

    number: Rate | Mean
    meaning: str


def suffixed(measured: Mapping[str, Measured], suffix: str) -> dict[str, Measured]:
    """Return the same by longer names."""
    return {f"{name}_{suffix}": one for name, one in measured.items()}
