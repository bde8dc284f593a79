"""k-distance: the distance to the k-th nearest image, as in Huang et al. 2025, arXiv:2502.01385."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.methods.detectors.local import LocalDetector
from clipmend.metrics.neighbors import Neighborhood


@dataclass(frozen=True)
class KDistance(LocalDetector):
    """Scores each training pair by the distance from its image to the k-th nearest image."""

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the distance: images in sparse neighborhoods are suspect."""
        # A copy: a view would keep all k columns of every block in memory.
        return near.own.distance[:, -1].clone()
