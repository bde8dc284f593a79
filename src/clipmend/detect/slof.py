"""SLOF: how much sparser it is around an image than around its neighbours (Schubert 2014)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.detect.local import LocalDetector
from clipmend.measure.neighbours import Neighbourhood


@dataclass(frozen=True)
class SLOF(LocalDetector):
    """Scores a pair by the mean of its k-distance over those of its neighbours.

    The simplified local outlier factor.
    """

    def score(self, near: Neighbourhood) -> Float[Tensor, " samples"]:
        """Return the ratio: images sparser than their surroundings are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        return (near.own.distance[:, -1:] / theirs).mean(dim=1)
