"""The base of the detectors by neighborhood: k_distance, slof, lid and dao; no method by itself."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.streaming import Images
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Count, Several
from clipmend.metrics.approximate import index_of, nearest_of_all, recall
from clipmend.metrics.neighbors import Neighborhood, Reference, neighborhoods, reference_rows
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Hooks

logger = logging.getLogger(__name__)

_BLOCK = 1024  # images embedded at once


@dataclass(frozen=True)
class LocalDetector(ABC):
    """Scores each training pair by the neighborhood of its image under the victim.

    Differs from the paper (Huang et al. 2025, arXiv:2502.01385): neighbors come from a fixed
    reference set of images. There they come from the shuffled batch of the pair, captions included.
    Embeddings are normalized.

    Attributes:
        neighbors: k, the number of nearest images.
        reference: number of training pairs among which neighbors are searched.
        search: ``reference`` is exact and needs memory that does not grow with the pairs.
            ``approximate`` searches all pairs with faiss, ignores the setting ``reference``, and
            logs its measured recall.
        probes: number of cells of the approximate index that a query visits; more find more.
    """

    neighbors: Count = 16
    reference: Several = 32768
    search: Literal["reference", "approximate"] = "reference"
    probes: Count = 32

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores."""
        images = assets.train().images
        if self.search == "approximate":
            embeds = embed_images(assets.model, images)
            nearest = nearest_of_all(
                index_of(embeds, generator), embeds, self.neighbors, probes=self.probes
            )
            share, k = recall(nearest, embeds, generator), nearest.index.shape[1]
            logger.info("%s: recall@%d of the approximate search is %.4f", hooks.label, k, share)
            return PairScores(self.score(Neighborhood(nearest, lambda: nearest)))
        reference, blocks = embedded(assets.model, images, self.reference, generator)
        return PairScores(torch.cat(list(self.scores(blocks, reference))))

    def scores(
        self, blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference
    ) -> Iterator[Float[Tensor, " block"]]:
        """Yield the scores of a stream of embeddings, block by block."""
        for near in neighborhoods(blocks, reference, self.neighbors):
            yield self.score(near)

    @abstractmethod
    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return one finite value for each pair; higher is more suspect."""


def embedded(
    model: Clip, images: Images, size: int, generator: torch.Generator
) -> tuple[Reference, Iterable[Float[Tensor, "_ dim"]]]:
    """Return a random reference set of at most ``size`` images, and all images as a stream."""
    rows = reference_rows(len(images), size, generator)
    embeds = torch.cat([embed_images(model, images[part]) for part in rows.split(_BLOCK)])
    if len(rows) == len(images):  # the set is the stream, and no image is embedded twice
        return Reference(embeds, rows), [embeds]
    return Reference(embeds, rows), (embed_images(model, block) for block in images.split(_BLOCK))
