"""SLOF: how much sparser it is around an image than around its neighbours (Schubert 2014)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from clipmend.clip.fit import Hooks
from clipmend.clip.model import embed_images
from clipmend.corpus.splits import Pairs
from clipmend.detect.detector import Suspicion, Victim
from clipmend.measure.neighbours import neighbourhood
from clipmend.settings import Count


@dataclass(frozen=True)
class SLOF:
    """Scores a pair by the mean of its k-distance over those of its neighbours.

    The simplified local outlier factor, on images under the finished victim, as in
    arXiv:2502.01385. Differs from the paper: as ``k_distance``.

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
        """Return the suspicion: images sparser than their surroundings are suspect."""
        embeds = embed_images(victim.model, train.images)
        near = neighbourhood(embeds, self.neighbours, size=self.reference, generator=generator)
        theirs = near.around.distance[:, -1][near.own.index]
        return Suspicion((near.own.distance[:, -1:] / theirs).mean(dim=1))
