"""LID: the dimension of the data around an image (Ma et al. 2018, arXiv:1801.02613)."""

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
class LID:
    """Scores a pair by the local intrinsic dimension at its image, under the finished victim.

    As a backdoor detector in arXiv:2502.01385. Differs from the paper: as ``k_distance``.

    Attributes:
        reference: how many training pairs the neighbours are looked for among.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    neighbours: Count = 64
    reference: Count = 32768

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,  # noqa: ARG002
    ) -> Suspicion:
        """Return the suspicion: images where the data has many dimensions are suspect."""
        embeds = embed_images(victim.model, train.images)
        near = neighbourhood(embeds, self.neighbours, size=self.reference, generator=generator)
        return Suspicion(intrinsic_dimension(near.own.distance))
