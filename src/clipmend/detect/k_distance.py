"""k-distance: how far the k-th nearest image is (as in Huang et al. 2025, arXiv:2502.01385)."""

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
class KDistance:
    """Scores a pair by its image's distance to the k-th nearest, under the finished victim.

    Differs from the paper: neighbours are looked for in a reference set drawn once, not in
    the shuffled batch that a pair happens to be in; embeddings are normalised.

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
        """Return the suspicion: images in sparse neighbourhoods are suspect."""
        embeds = embed_images(victim.model, train.images)
        near = neighbourhood(embeds, self.neighbours, size=self.reference, generator=generator)
        return Suspicion(near.own.distance[:, -1])
