"""SLOF: how much sparser it is around an image than around its neighbors (Schubert 2014)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.metrics.neighbors import Neighborhood, are_duplicates

_MOST = 1000.0  # the score beside duplicates, whose own distances are 0


@dataclass(frozen=True)
class SLOF(LocalDetector):
    """Scores a pair by the mean of its k-distance over those of its neighbors.

    The simplified local outlier factor. A neighbor with k duplicates has a k-distance of 0, and
    the mean would have no bound: it is 1,000 at most then, as in the code of arXiv:2502.01385.

    Differs from that code: it scores such duplicates themselves 1,000 too, where there are more
    than k; here they are as dense as their surroundings, 1.
    """

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the ratio: images sparser than their surroundings are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        ratio = (near.own.distance[:, -1:] / theirs).mean(dim=1)
        is_unbounded = are_duplicates(near.around.distance)[near.own.index].any(dim=1)
        return ratio.where(~is_unbounded, ratio.clamp(max=_MOST))
