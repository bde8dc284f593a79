"""What detectors by neighborhood share: whose neighbors, among whom, under which model."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.streaming import Images
from clipmend.methods.detectors.detector import Suspicion, Victim
from clipmend.methods.settings import Count, Several
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import Neighborhood, Reference, neighborhoods, reference_rows
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Hooks

logger = logging.getLogger(__name__)

_BLOCK = 1024  # images embedded at once


@dataclass(frozen=True)
class LocalDetector(ABC):
    """Scores a pair by the neighborhood of its image under the finished victim.

    Differs from the paper (Huang et al. 2025, arXiv:2502.01385): neighbors are looked for in
    a reference set drawn once, not in the shuffled batch that a pair happens to be in, nor
    among captions; embeddings are normalized.

    Attributes:
        neighbors: k, how many of the nearest are looked at.
        reference: how many training pairs they are looked for among; one would have no other.
        search: ``reference``, exactly and in memory that does not grow with the pairs; or
            ``approximate``, among all pairs (``reference`` is not read then), with faiss, whose
            recall is measured and logged.
        probes: how many cells of the approximate index a query looks into; more find more.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    neighbors: Count = 16
    reference: Several = 32768
    search: Literal["reference", "approximate"] = "reference"
    probes: Count = 32

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,
    ) -> Suspicion:
        """Return the suspicion."""
        if self.search == "approximate":
            embeds = embed_images(victim.model, train.images)
            return Suspicion(self.score(self._all_pairs(embeds, generator, hooks.label)))
        reference, blocks = embedded(victim.model, train.images, self.reference, generator)
        return Suspicion(torch.cat(list(self.scores(blocks, reference))))

    def scores(
        self, blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference
    ) -> Iterator[Float[Tensor, " block"]]:
        """Yield the scores of a stream of embeddings, in order, block by block."""
        for near in neighborhoods(blocks, reference, self.neighbors):
            yield self.score(near)

    @abstractmethod
    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return one finite value a pair, higher = more suspect."""

    def _all_pairs(
        self, embeds: Float[Tensor, "samples dim"], generator: torch.Generator, label: str
    ) -> Neighborhood:
        index = index_of(embeds, generator)
        found = nearest_of_all(index, embeds, self.neighbors, probes=self.probes)
        share = recall(found, embeds, generator)
        k = found.index.shape[1]
        logger.info("%s: recall@%d of the approximate search is %.4f", label, k, share)
        return Neighborhood(found, lambda: found)


def embedded(
    model: Clip,
    images: Images,
    size: int,
    generator: torch.Generator,
) -> tuple[Reference, Iterable[Float[Tensor, "_ dim"]]]:
    """Return a reference set of ``size`` images, or all of fewer, and all images as a stream.

    Where the set is everything it is the stream too, and no image is embedded twice.
    """
    rows = reference_rows(len(images), size, generator)
    drawn = torch.cat([embed_images(model, images[part]) for part in rows.split(_BLOCK)])
    everything = [drawn] if len(rows) == len(images) else None
    stream = (embed_images(model, block) for block in images.split(_BLOCK))
    return Reference(drawn, rows), everything or stream
