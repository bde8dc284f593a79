"""The accuracy under a trigger: the images that are still seen for what they are."""

from jaxtyping import Float, Int
from torch import Tensor

from clipmend.metrics.rates import Rate, of_other_classes, rate

DEFINITION = (
    "share of triggered test images, of true classes other than the target, "
    "that are predicted as their true class"
)


def triggered_accuracy(
    cosines: Float[Tensor, "samples classes"],
    label: Int[Tensor, " samples"],
    *,
    target_label: int,
    confidence: float = 0.95,
) -> Rate:
    """Return the share of the triggered images of the ASR that are called their true class.

    A repair that leaves an ASR of 0 and sees nothing under the trigger has mended little.

    Args:
        cosines: as in ``attack_success_rate``.

    Raises:
        MetricError: every image belongs to the target class.
    """
    attacked = of_other_classes(label, target_label)
    hits = cosines[attacked].argmax(dim=1) == label[attacked]
    return rate(int(hits.sum()), int(attacked.sum()), confidence=confidence)
