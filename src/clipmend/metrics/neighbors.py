"""Nearest neighbors among a reference set, and the local statistics that detectors build on.

Samples arrive in blocks, and each block is compared with the whole reference set. Memory is bounded
by their product, whatever the number of samples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST = 1e-6  # smallest distance, so that duplicates have a logarithm
_RATIO = 1e-4  # ratio of distances that the published code gives to duplicates
_BLOCK = 1024  # queries at once: 128 MB against 32,768 references
_CELLS = 2**25  # queries times references at once, if there are more references
_PART = 64  # queries whose candidates are compared at once, so that they fit the CPU cache


@dataclass(frozen=True)
class Neighbors:
    """The k nearest reference points of each query, the nearest first.

    Attributes:
        distance: Euclidean distances, > 0.
        index: positions in the reference set.
    """

    distance: Float[Tensor, "queries k"]
    index: Int[Tensor, "queries k"]

    def first(self, k: int) -> "Neighbors":
        """Return the ``k`` nearest neighbors."""
        return Neighbors(self.distance[:, :k], self.index[:, :k])


@dataclass(frozen=True)
class Reference:
    """The reference set that samples are compared with.

    Attributes:
        embeds: L2-normalized embeddings.
        rows: the row of each point among all samples, ascending.
    """

    embeds: Float[Tensor, "reference dim"]
    rows: Int[Tensor, " reference"]


@dataclass(frozen=True)
class Neighborhood:
    """The neighbors of some samples in a reference set, and those of the set itself.

    Attributes:
        own: neighbors of the samples.
        surroundings: computes the neighbors of the reference points among themselves.
    """

    own: Neighbors
    surroundings: Callable[[], Neighbors]

    @property
    def around(self) -> Neighbors:
        """The neighbors of the reference points, computed on first use."""
        return self.surroundings()

    def first(self, k: int) -> "Neighborhood":
        """Return the neighborhood with the ``k`` nearest only: one search serves several k."""
        return Neighborhood(self.own.first(k), lambda: self.around.first(k))


def neighborhoods(
    blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference, k: int
) -> Iterator[Neighborhood]:
    """Yield the neighborhoods of all samples in order, in blocks of a fixed size.

    Args:
        blocks: L2-normalized embeddings of all samples in order, in blocks of any size; read once.
        k: number of neighbors, less than the number of references.
    """
    # A fixed block size makes every bit of the result independent of the incoming blocks.
    surroundings = cache(partial(nearest, reference.embeds, reference.rows, reference, k))
    first = 0
    for block in evenly(blocks, _queries(reference)):
        rows = torch.arange(first, first + len(block))
        yield Neighborhood(nearest(block, rows, reference, k), surroundings)
        first += len(block)


def evenly(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the rows in blocks of ``size``; the last block may be shorter."""
    rest = None
    for block in blocks:
        rest = block if rest is None else torch.cat([rest, block])
        if full := len(rest) // size * size:
            yield from rest[:full].split(size)
        rest = rest[full:]
    if rest is not None and len(rest):
        yield rest


def reference_of(
    embeds: Float[Tensor, "samples dim"], size: int, generator: torch.Generator
) -> Reference:
    """Return ``size`` random samples, or all samples if there are fewer."""
    return collected([embeds], reference_rows(len(embeds), size, generator))


def reference_rows(
    samples: int, size: int, generator: torch.Generator
) -> Int[Tensor, " reference"]:
    """Return the ascending rows of ``size`` random samples, or all rows if there are fewer."""
    if size >= samples:
        return torch.arange(samples)
    return torch.randperm(samples, generator=generator)[:size].sort().values


def collected(
    blocks: Iterable[Float[Tensor, "_ dim"]], rows: Int[Tensor, " reference"]
) -> Reference:
    """Return the reference set at ascending ``rows`` of the samples in ``blocks``."""
    points, first = torch.empty(0), 0
    for block in blocks:
        if not first:
            # Allocated at once: small pieces between freed blocks fragment the heap, which then
            # grows with the stream (3 GB for 1,000,000 x 512).
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
    """Return the nearest reference points of each query, without the query itself.

    Args:
        embeds: L2-normalized embeddings of the queries.
        rows: the row of each query among all samples, by which it is recognized in the reference.
        k: number of neighbors, less than the number of references.
    """
    k = min(k, len(reference.rows) - 1)
    size = _queries(reference)
    parts = [
        _nearest_block(block, block_rows, reference, k)
        for block, block_rows in zip(embeds.split(size), rows.split(size), strict=True)
    ]
    distance, index = (torch.cat(part) for part in zip(*parts, strict=True))
    return Neighbors(distance, index)


def _queries(reference: Reference) -> int:
    return max(1, min(_BLOCK, _CELLS // len(reference.rows)))


def _nearest_block(
    embeds: Tensor, rows: Tensor, reference: Reference, k: int
) -> tuple[Tensor, Tensor]:
    cosines = embeds @ reference.embeds.T
    position = torch.searchsorted(reference.rows, rows).clamp(max=len(reference.rows) - 1)
    is_itself = reference.rows[position] == rows
    cosines[is_itself.nonzero().squeeze(1), position[is_itself]] = -torch.inf
    # Cosines near 1 lose the digits of small distances, and triggered images are close together:
    # cosines choose candidates, and distances rank them.
    candidates = cosines.topk(min(2 * k, len(reference.rows) - 1), dim=1).indices
    distance = _distances(embeds, reference.embeds, candidates).clamp(min=LEAST)
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :k], candidates.gather(1, order[:, :k])


def _distances(embeds: Tensor, reference: Tensor, candidates: Tensor) -> Tensor:
    # One buffer for all parts: a fresh tensor per part fragments the heap by up to 250 MB.
    buffer = reference.new_empty(_PART * candidates.shape[1], reference.shape[1])
    distances = []
    for part, near in zip(embeds.split(_PART), candidates.split(_PART), strict=True):
        points = buffer[: near.numel()]
        torch.index_select(reference, 0, near.flatten(), out=points)
        distances.append(points.view(*near.shape, -1).sub_(part[:, None]).norm(dim=2))
    return torch.cat(distances)


def intrinsic_dimension(distance: Float[Tensor, "queries k"]) -> Float[Tensor, " queries"]:
    """Return the local intrinsic dimensionality (LID), estimated from neighbors' distances, > 0.

    The maximum-likelihood estimate of Levina and Bickel 2005, as in Amsaleg et al. 2015, eq. 3:
    minus the inverse mean logarithm of the distances divided by the largest distance.

    If all neighbors are duplicates, the estimate is 0.11: the smallest value of the code of
    arXiv:2502.01385, which adds 1e-4 to every ratio.
    """
    mean = (distance / distance[:, -1:]).log().mean(dim=1)
    dimension = -1 / mean.clamp(max=-LEAST)
    return dimension.where(~are_duplicates(distance), -1 / log(_RATIO))


def are_duplicates(distance: Float[Tensor, "queries k"]) -> Bool[Tensor, " queries"]:
    """Return whether all neighbors of a query are duplicates of it."""
    return distance[:, -1] <= LEAST
