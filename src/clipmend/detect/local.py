"""What detectors by neighbourhood share: whose neighbours, among whom, under which model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.clip.fit import Hooks
from clipmend.clip.model import embed_images
from clipmend.corpus.splits import Pairs
from clipmend.detect.detector import Suspicion, Victim
from clipmend.measure.neighbours import Neighbourhood, neighbourhood
from clipmend.settings import Count


@dataclass(frozen=True)
class LocalDetector(ABC):
    """Scores a pair by the neighbourhood of its image under the finished victim.

    Differs from the paper (Huang et al. 2025, arXiv:2502.01385): neighbours are looked for in
    a reference set drawn once, not in the shuffled batch that a pair happens to be in, nor
    among captions; embeddings are normalised.

    Attributes:
        neighbours: k, how many of the nearest are looked at.
        reference: how many training pairs they are looked for among.
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
        """Return the suspicion."""
        embeds = embed_images(victim.model, train.images)
        near = neighbourhood(embeds, self.neighbours, size=self.reference, generator=generator)
        return Suspicion(self.score(near))

    @abstractmethod
    def score(self, near: Neighbourhood) -> Float[Tensor, " samples"]:
        """Return one finite value a pair, higher = more suspect."""
