"""Nearest neighbours among a reference set, and the local statistics that detectors build on.

Blocks of queries meet the whole reference set, so that memory is bounded by their product,
whatever the number of pairs.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 1024  # queries at once: 128 MB against 32,768 references
_LEAST = 1e-6  # distance of duplicates, whose logarithm is wanted


@dataclass(frozen=True)
class Neighbours:
    """The k nearest reference points of each query, the nearest first.

    Attributes:
        distance: Euclidean, > 0.
        index: of rows of the reference.
    """

    distance: Float[Tensor, "queries k"]
    index: Int[Tensor, "queries k"]


@dataclass(frozen=True)
class Reference:
    """Points that others are compared with.

    Attributes:
        embeds: L2-normalised.
        rows: where each stands among all samples.
    """

    embeds: Float[Tensor, "reference dim"]
    rows: Int[Tensor, " reference"]


@dataclass(frozen=True)
class Neighbourhood:
    """All samples' neighbours among a reference set, and that set's own."""

    reference: Reference
    own: Neighbours

    @cached_property
    def around(self) -> Neighbours:
        """The neighbours of the reference points, among themselves."""
        k = self.own.index.shape[1]
        return nearest(self.reference.embeds, self.reference.rows, self.reference, k)


def neighbourhood(
    embeds: Float[Tensor, "samples dim"], k: int, *, size: int, generator: torch.Generator
) -> Neighbourhood:
    """Return each sample's ``k`` nearest among ``size`` samples that the generator draws."""
    reference = reference_of(embeds, size, generator)
    return Neighbourhood(reference, nearest(embeds, torch.arange(len(embeds)), reference, k))


def reference_of(
    embeds: Float[Tensor, "samples dim"], size: int, generator: torch.Generator
) -> Reference:
    """Return ``size`` samples drawn at random, or all where there are fewer."""
    rows = torch.arange(len(embeds))
    if size < len(embeds):
        rows = torch.randperm(len(embeds), generator=generator)[:size].sort().values
    return Reference(embeds[rows], rows)


def nearest(
    embeds: Float[Tensor, "queries dim"],
    rows: Int[Tensor, " queries"],
    reference: Reference,
    k: int,
) -> Neighbours:
    """Return each query's nearest reference points other than itself.

    Args:
        embeds: L2-normalised.
        rows: where each query stands among all samples; the reference point of that row is it.
        k: how many; at most one less than there are references.
    """
    k = min(k, len(reference.rows) - 1)
    found = [
        _nearest_block(block, block_rows, reference, k)
        for block, block_rows in zip(embeds.split(_BLOCK), rows.split(_BLOCK), strict=True)
    ]
    distance, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(distance, index)


def _nearest_block(
    embeds: Tensor, rows: Tensor, reference: Reference, k: int
) -> tuple[Tensor, Tensor]:
    cosines = embeds @ reference.embeds.T
    place = torch.searchsorted(reference.rows, rows).clamp(max=len(reference.rows) - 1)
    is_itself = reference.rows[place] == rows
    cosines[is_itself.nonzero().squeeze(1), place[is_itself]] = -torch.inf
    # Cosines near 1 have lost what distances near 0 consist of, and triggered images fall together:
    # cosines choose candidates, distances decide.
    candidates = cosines.topk(min(2 * k, len(reference.rows) - 1), dim=1).indices
    distance = (embeds[:, None] - reference.embeds[candidates]).norm(dim=2).clamp(min=_LEAST)
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :k], candidates.gather(1, order[:, :k])


def intrinsic_dimension(distance: Float[Tensor, "queries k"]) -> Float[Tensor, " queries"]:
    """Return LID, the maximum-likelihood estimate from neighbours' distances, > 0.

    Levina and Bickel 2005; as Amsaleg et al. 2015, eq. 3: minus the inverse of the mean
    logarithm of the distances over the largest of them.
    """
    mean = (distance / distance[:, -1:]).log().mean(dim=1)
    return -1 / mean.clamp(max=-_LEAST)
