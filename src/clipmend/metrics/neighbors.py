"""Nearest neighbors among a reference set, and the local statistics that detectors build on.

Samples come by in blocks, and each block meets the whole reference set: memory is bounded by
their product, whatever the number of samples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST = 1e-6  # distance of duplicates, whose logarithm is wanted
_RATIO = 1e-4  # of distances, for which the published LID takes that of duplicates
_BLOCK = 1024  # queries at once: 128 MB against 32,768 references
_CELLS = 2**25  # of queries by references at once, where there are more references
_PART = 64  # queries whose candidates are compared at once: in cache, and small


@dataclass(frozen=True)
class Neighbors:
    """The k nearest reference points of each query, the nearest first.

    Attributes:
        distance: Euclidean, > 0.
        index: of rows of the reference.
    """

    distance: Float[Tensor, "queries k"]
    index: Int[Tensor, "queries k"]

    def first(self, k: int) -> "Neighbors":
        """Return the ``k`` nearest of them."""
        return Neighbors(self.distance[:, :k], self.index[:, :k])


@dataclass(frozen=True)
class Reference:
    """Points that others are compared with.

    Attributes:
        embeds: L2-normalized.
        rows: where each stands among all samples, ascending.
    """

    embeds: Float[Tensor, "reference dim"]
    rows: Int[Tensor, " reference"]


@dataclass(frozen=True)
class Neighborhood:
    """Some samples' neighbors among a reference set, and that set's own.

    Attributes:
        own: those of the samples.
        surroundings: returns those of the reference points, among themselves.
    """

    own: Neighbors
    surroundings: Callable[[], Neighbors]

    @property
    def around(self) -> Neighbors:
        """The neighbors of the reference points, found when they are first asked for."""
        return self.surroundings()

    def first(self, k: int) -> "Neighborhood":
        """Return the same with the ``k`` nearest only: one search serves several values of k."""
        return Neighborhood(self.own.first(k), lambda: self.around.first(k))


def neighborhoods(
    blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference, k: int
) -> Iterator[Neighborhood]:
    """Yield the neighborhood of each block of samples, in order and as they come.

    They leave in blocks of a fixed size, not in those that came: whichever those were, the
    same rows meet the reference together, and every bit of the results is the same.

    Args:
        blocks: the embeddings of all samples in order, L2-normalized; read once.
        k: how many neighbors; at most one less than there are references.
    """
    surroundings = cache(partial(nearest, reference.embeds, reference.rows, reference, k))
    first = 0
    for block in evenly(blocks, _queries(reference)):
        rows = torch.arange(first, first + len(block))
        yield Neighborhood(nearest(block, rows, reference, k), surroundings)
        first += len(block)


def evenly(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the same rows in blocks of ``size``; the last may be shorter."""
    rest = None
    for block in blocks:
        rest = block if rest is None else torch.cat([rest, block])
        if whole := len(rest) // size * size:
            yield from rest[:whole].split(size)
        rest = rest[whole:]
    if rest is not None and len(rest):
        yield rest


def reference_of(
    embeds: Float[Tensor, "samples dim"], size: int, generator: torch.Generator
) -> Reference:
    """Return ``size`` samples drawn at random, or all where there are fewer."""
    return collected([embeds], reference_rows(len(embeds), size, generator))


def reference_rows(
    samples: int, size: int, generator: torch.Generator
) -> Int[Tensor, " reference"]:
    """Return which ``size`` of so many samples are drawn, ascending; all of fewer.

    The start of a drawn permutation of row numbers: it knows of no blocks.
    """
    if size >= samples:
        return torch.arange(samples)
    return torch.randperm(samples, generator=generator)[:size].sort().values


def collected(
    blocks: Iterable[Float[Tensor, "_ dim"]], rows: Int[Tensor, " reference"]
) -> Reference:
    """Return the reference set that stands at ``rows`` (ascending) of the samples in ``blocks``."""
    points, first = torch.empty(0), 0
    for block in blocks:
        if not first:
            # All at once: small pieces kept between blocks that are freed leave holes too small for
            # the next block, and the heap grows with the stream (3 GB for 1,000,000 x 512).
            points = block.new_empty(len(rows), block.shape[1])
        low, high = torch.searchsorted(rows, torch.tensor([first, first + len(block)])).tolist()
        points[low:high] = block[rows[low:high] - first]
        first += len(block)
    return Reference(points, rows)


def nearest(
    embeds: Float[Tensor, "queries dim"],
    rows: Int[Tensor, " queries"],
    reference: Reference,
    k: int,
) -> Neighbors:
    """Return each query's nearest reference points other than itself.

    Args:
        embeds: L2-normalized.
        rows: where each query stands among all samples; the reference point of that row is it.
        k: how many; at most one less than there are references.
    """
    k = min(k, len(reference.rows) - 1)
    size = _queries(reference)
    found = [
        _nearest_block(block, block_rows, reference, k)
        for block, block_rows in zip(embeds.split(size), rows.split(size), strict=True)
    ]
    distance, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbors(distance, index)


def _queries(reference: Reference) -> int:
    return max(1, min(_BLOCK, _CELLS // len(reference.rows)))


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
    distance = _distances(embeds, reference.embeds, candidates).clamp(min=LEAST)
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :k], candidates.gather(1, order[:, :k])


def _distances(embeds: Tensor, reference: Tensor, candidates: Tensor) -> Tensor:
    # One room for all parts: fresh tensors for each would leave holes, 250 MB of them at worst.
    room = reference.new_empty(_PART * candidates.shape[1], reference.shape[1])
    found = []
    for part, near in zip(embeds.split(_PART), candidates.split(_PART), strict=True):
        points = room[: near.numel()]
        torch.index_select(reference, 0, near.flatten(), out=points)
        found.append(points.view(*near.shape, -1).sub_(part[:, None]).norm(dim=2))
    return torch.cat(found)


def intrinsic_dimension(distance: Float[Tensor, "queries k"]) -> Float[Tensor, " queries"]:
    """Return LID, the maximum-likelihood estimate from neighbors' distances, > 0.

    Levina and Bickel 2005; as Amsaleg et al. 2015, eq. 3: minus the inverse of the mean
    logarithm of the distances over the largest of them.

    Where all neighbors are duplicates no ratio tells anything, and the dimension is the least
    that the code of arXiv:2502.01385 can give, which adds 1e-4 to every ratio: 0.11. It gives
    it to a point with k duplicates too; with more its ratios are 0 / 0.
    """
    mean = (distance / distance[:, -1:]).log().mean(dim=1)
    dimension = -1 / mean.clamp(max=-LEAST)
    return dimension.where(~are_duplicates(distance), -1 / log(_RATIO))


def are_duplicates(distance: Float[Tensor, "queries k"]) -> Bool[Tensor, " queries"]:
    """Return whether a query's neighbors are all in its own place."""
    return distance[:, -1] <= LEAST
