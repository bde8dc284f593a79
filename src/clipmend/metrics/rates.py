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

    Raises:
        MetricError: ``n`` is 0.
    """
    # Written out here: importing scipy's function takes most of a second in every job.
    if n == 0:
        raise MetricError("A rate of 0 images is not defined.")
    # Wilson, since the normal approximation fails near 0 and 1, where ASRs are.
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
    """Return the clean accuracy (CA): the share of images with their class among the closest.

    Args:
        top: number of closest classes that count.

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
    """Return the attack success rate (ASR): the share of triggered images called the target.

    Images of the target class are left out of the numerator *and* the denominator.

    Args:
        cosines: cosines of the triggered images with the classes.
        label: the true class of each image.
        target_label: the class that the attacker wants.

    Raises:
        MetricError: every image belongs to the target class.
    """
    # An image of the target class would count as a success of an attack that did nothing.
    attacked = of_other_classes(label, target_label)
    hits = cosines[attacked].argmax(dim=1) == target_label
    return rate(int(hits.sum()), int(attacked.sum()), confidence=confidence)


def of_other_classes(label: Int[Tensor, " samples"], target_label: int) -> Bool[Tensor, " samples"]:
    """Return whether each image is of a class other than the target.

    Raises:
        MetricError: all images are of the target class.
    """
    others = label != target_label
    if not others.any():
        raise MetricError(
            f"The attack success rate is not defined: all {len(label)} images are of the target "
            "class; add images of other classes to the split, or measure on more images."
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
    """A number and its definition, as in ``metrics.json``."""

    number: Rate | Mean
    meaning: str


def suffixed(measured: Mapping[str, Measured], suffix: str) -> dict[str, Measured]:
    """Return the numbers with a suffix to their names."""
    return {f"{name}_{suffix}": number for name, number in measured.items()}
