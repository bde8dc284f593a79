"""All samples' neighbors among all, approximately: faiss (Douze et al. 2024, arXiv:2401.08281).

Exact neighbors of all pairs would cost the square of their number. The index holds every
embedding, so that memory grows with the samples here, though not with their pairs.
"""

from math import isqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.errors import ParamsError
from clipmend.metrics.neighbors import LEAST, Neighbors, Reference, nearest, reference_rows

_BLOCK = 4096  # queries at once
# Training points a cell: fewer than 39 and faiss warns, more than 256 and it would leave some out.
_POINTS = (39, 64)
_TIE = 1e-4  # of a distance: what two ways of adding up 512 squares differ by, and more


def index_of(embeds: Float[Tensor, "samples dim"], generator: torch.Generator) -> Any:
    """Return faiss's inverted file over all samples; the generator seeds its k-means.

    It has 4 sqrt(samples) cells, as faiss's guidelines have it below a million, and stores
    vectors as they are. It is no HNSW graph, because threads that build one together need not
    build the same twice.

    Args:
        embeds: L2-normalized.

    Raises:
        ParamsError: faiss is not installed.
    """
    faiss = _library()
    least, most = _POINTS
    cells = max(1, min(4 * isqrt(len(embeds)), len(embeds) // least))
    dim = embeds.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells, faiss.METRIC_L2)
    index.cp.seed = int(torch.randint(2**31 - 1, (), generator=generator))
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, most
    points = embeds.contiguous().numpy()
    index.train(points)
    index.add(points)
    return index


def nearest_of_all(
    index: Any, embeds: Float[Tensor, "samples dim"], k: int, *, probes: int
) -> Neighbors:
    """Return each sample's ``k`` nearest others, some of which may be missed.

    Distances are exact; which samples they are of depends on the cells looked into.

    Args:
        index: over these very samples.
        k: at most one less than there are samples.
        probes: how many of the nearest cells a query looks into.
    """
    k = min(k, len(embeds) - 1)
    rows = torch.arange(len(embeds))
    found = [
        _without_itself(*_search(index, block, k + 1, probes), block_rows)
        for block, block_rows in zip(embeds.split(_BLOCK), rows.split(_BLOCK), strict=True)
    ]
    distance, place = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbors(distance, place)


def recall(
    found: Neighbors,
    embeds: Float[Tensor, "samples dim"],
    generator: torch.Generator,
    *,
    queries: int = 1000,
) -> float:
    """Return recall@k in [0, 1] over ``queries`` samples drawn at random, against exact search.

    The share of neighbors found that are no farther than the true k-th. By distance, because
    of duplicates any k are right.
    """
    rows = reference_rows(len(embeds), queries, generator)
    everything = Reference(embeds, torch.arange(len(embeds)))
    exact = nearest(embeds[rows], rows, everything, found.distance.shape[1])
    right = found.distance[rows] <= exact.distance[:, -1:] * (1 + _TIE)
    return right.float().mean().item()


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ParamsError(
            "search: approximate needs the library faiss, which is not installed; "
            "search: reference needs none. Install it with pip install 'clipmend[ann]'."
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _search(index: Any, embeds: Tensor, k: int, probes: int) -> tuple[Tensor, Tensor]:
    """Return squared distances and rows; where the cells hold too few, all cells are searched."""
    faiss = _library()
    queries = embeds.contiguous().numpy()
    squared, place = index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=probes))
    if (short := (place < 0).any(axis=1)).any():
        every = faiss.SearchParametersIVF(nprobe=index.nlist)
        squared[short], place[short] = index.search(queries[short], k, params=every)
    return torch.from_numpy(squared), torch.from_numpy(place)


def _without_itself(squared: Tensor, place: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    distance = squared.clamp(min=0).sqrt().clamp(min=LEAST)
    # Among many duplicates a sample may not have found itself: then the farthest goes.
    distance[place == rows[:, None]] = torch.inf
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :-1], place.gather(1, order[:, :-1])
