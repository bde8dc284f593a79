"""SLOF (simplified local outlier factor): the sparsity around an image (Schubert et al. 2014)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.metrics.neighbors import Neighborhood, are_duplicates

_MOST = 1000.0  # the largest score beside duplicates, whose own k-distance is 0


@dataclass(frozen=True)
class SLOF(LocalDetector):
    """Scores each training pair by the mean ratio of its k-distance to that of each neighbor.

    A neighbor with k duplicates has a k-distance of 0, which would make the mean infinite. The
    score is then 1,000 at most, as in the code of arXiv:2502.01385.

    Differs from that code: there, the duplicates themselves also score 1,000 if there are more
    than k. Here they score 1, because they are as dense as their surroundings.
    """

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the ratio: images in sparser regions than their neighbors are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        ratio = (near.own.distance[:, -1:] / theirs).mean(dim=1)
        is_unbounded = are_duplicates(near.around.distance)[near.own.index].any(dim=1)
        return ratio.where(~is_unbounded, ratio.clamp(max=_MOST))
