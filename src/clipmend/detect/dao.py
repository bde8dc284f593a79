"""DAO: an outlier factor that knows the local dimension (Anderberg et al., arXiv:2401.05453)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from clipmend.clip.fit import Hooks
from clipmend.clip.model import embed_images
from clipmend.corpus.splits import Pairs
from clipmend.detect.detector import Suspicion, Victim
from clipmend.measure.neighbours import intrinsic_dimension, neighbourhood
from clipmend.settings import Count


@dataclass(frozen=True)
class DAO:
    """Scores a pair by the mean, over its neighbours, of their LID times a log ratio.

    The ratio is of the pair's k-distance to the neighbour's own. Of images, under the finished
    victim, as in arXiv:2502.01385.

    Differs from the paper: as ``k_distance``; and neighbours' indices are those of the
    neighbours, where the published code takes a point's place after the query itself was
    removed for its place before.

    Attributes:
        reference: how many training pairs the neighbours are looked for among.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    neighbours: Count = 16
    reference: Count = 32768

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,  # noqa: ARG002
    ) -> Suspicion:
        """Return the suspicion: outliers, by the measure of their surroundings, are suspect."""
        embeds = embed_images(victim.model, train.images)
        near = neighbourhood(embeds, self.neighbours, size=self.reference, generator=generator)
        theirs = near.around.distance[:, -1][near.own.index]
        dimension = intrinsic_dimension(near.around.distance)[near.own.index]
        return Suspicion((dimension * (near.own.distance[:, -1:] / theirs).log()).mean(dim=1))
