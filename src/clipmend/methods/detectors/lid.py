"""LID: the dimension of the data around an image (Ma et al. 2018, arXiv:1801.02613)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.methods.settings import Count
from clipmend.metrics.neighbors import Neighborhood, intrinsic_dimension


@dataclass(frozen=True)
class LID(LocalDetector):
    """Scores a pair by the local intrinsic dimension at its image.

    An image with ``neighbors`` duplicates or more is among the least suspect, as with fewer.
    """

    neighbors: Count = 64

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the dimension: images where the data has many are suspect."""
        return intrinsic_dimension(near.own.distance)
