"""k-distance: how far the k-th nearest image is (as in Huang et al. 2025, arXiv:2502.01385)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.metrics.neighbors import Neighborhood


@dataclass(frozen=True)
class KDistance(LocalDetector):
    """Scores a pair by its image's distance to the k-th nearest."""

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the distance: images in sparse neighborhoods are suspect."""
        # A column alone: as a view it would keep all k of them, of every block of a stream.
        return near.own.distance[:, -1].clone()
