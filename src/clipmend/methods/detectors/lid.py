"""LID: the dimension of the data around an image (Ma et al. 2018, arXiv:1801.02613)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.methods.settings import Count
from clipmend.metrics.neighbours import Neighbourhood, intrinsic_dimension


@dataclass(frozen=True)
class LID(LocalDetector):
    """Scores a pair by the local intrinsic dimension at its image.

    An image with ``neighbours`` duplicates or more is among the least suspect, as with fewer.
    """

    neighbours: Count = 64

    def score(self, near: Neighbourhood) -> Float[Tensor, " samples"]:
        """Return the dimension: images where the data has many are suspect."""
        return intrinsic_dimension(near.own.distance)
