"""LID: the local intrinsic dimensionality at an image (Ma et al. 2018, arXiv:1801.02613)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.methods.settings import Count
from clipmend.metrics.neighbors import Neighborhood, intrinsic_dimension


@dataclass(frozen=True)
class LID(LocalDetector):
    """Scores each training pair by the local intrinsic dimensionality (LID) at its image.

    An image with ``neighbors`` or more duplicates is among the least suspect, as with fewer.
    """

    neighbors: Count = 64

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the dimensionality: images where it is high are suspect."""
        return intrinsic_dimension(near.own.distance)
