"""DAO: an outlier factor that knows the local dimension (Anderberg et al., arXiv:2401.05453)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipmend.detect.local import LocalDetector
from clipmend.measure.neighbours import Neighbourhood, intrinsic_dimension


@dataclass(frozen=True)
class DAO(LocalDetector):
    """Scores a pair by the mean, over its neighbours, of their LID times a log ratio.

    The ratio is of the pair's k-distance to the neighbour's own.

    Differs from the paper: neighbours are looked up by their own index, where the published
    code of arXiv:2502.01385 takes a point's place after the query was removed for its place
    before.
    """

    def score(self, near: Neighbourhood) -> Float[Tensor, " samples"]:
        """Return the factor: outliers, by the measure of their surroundings, are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        dimension = intrinsic_dimension(near.around.distance)[near.own.index]
        return (dimension * (near.own.distance[:, -1:] / theirs).log()).mean(dim=1)
