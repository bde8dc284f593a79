"""Approximate nearest neighbors among all samples, by faiss (Douze et al. 2024, arXiv:2401.08281).

Exact search costs the square of the number of samples. The index holds every embedding, so memory
grows linearly.
"""

from math import isqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.errors import ParamsError
from clipmend.metrics.neighbors import LEAST, Neighbors, Reference, nearest, reference_rows

_BLOCK = 4096  # queries at once
# Training points per cell: faiss warns below 39, and ignores points above 256.
_POINTS = (39, 64)
_TIE = 1e-4  # relative; above the rounding difference of two sums of 512 squares


def index_of(embeds: Float[Tensor, "samples dim"], generator: torch.Generator) -> Any:
    """Return an inverted file index of faiss over all samples; the generator seeds its k-means.

    It has 4 sqrt(samples) cells, as faiss recommends below a million, and stores full vectors.

    Args:
        embeds: L2-normalized.

    Raises:
        ParamsError: faiss is not installed.
    """
    faiss = _library()
    # Not an HNSW graph: several threads do not build the same graph twice.
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
    """Return the ``k`` nearest other samples of each sample; some may be missed.

    The distances are exact.

    Args:
        index: the index over these samples.
        k: at most the number of samples minus one.
        probes: number of cells that a query searches.
    """
    k = min(k, len(embeds) - 1)
    rows = torch.arange(len(embeds))
    parts = [
        _without_itself(*_search(index, block, k + 1, probes), block_rows)
        for block, block_rows in zip(embeds.split(_BLOCK), rows.split(_BLOCK), strict=True)
    ]
    distance, index_rows = (torch.cat(part) for part in zip(*parts, strict=True))
    return Neighbors(distance, index_rows)


def recall(
    neighbors: Neighbors,
    embeds: Float[Tensor, "samples dim"],
    generator: torch.Generator,
    *,
    queries: int = 1000,
) -> float:
    """Return recall@k in [0, 1] over ``queries`` random samples, compared with exact search.

    It is the share of neighbors that are not farther than the true k-th neighbor.
    """
    # Compared by distance: among duplicates, any k neighbors are correct.
    rows = reference_rows(len(embeds), queries, generator)
    everything = Reference(embeds, torch.arange(len(embeds)))
    exact = nearest(embeds[rows], rows, everything, neighbors.distance.shape[1])
    right = neighbors.distance[rows] <= exact.distance[:, -1:] * (1 + _TIE)
    return right.float().mean().item()


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ParamsError(
            "search: approximate needs the library faiss, which is not installed; use "
            "search: reference, or install it with pip install 'clipmend[ann]'."
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _search(index: Any, embeds: Tensor, k: int, probes: int) -> tuple[Tensor, Tensor]:
    """Return squared distances and rows; if the cells hold too few samples, search all cells."""
    faiss = _library()
    queries = embeds.contiguous().numpy()
    squared, place = index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=probes))
    if (short := (place < 0).any(axis=1)).any():
        every = faiss.SearchParametersIVF(nprobe=index.nlist)
        squared[short], place[short] = index.search(queries[short], k, params=every)
    return torch.from_numpy(squared), torch.from_numpy(place)


def _without_itself(squared: Tensor, place: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    distance = torch.from_numpy(np.sqrt(squared.clamp(min=0).numpy())).clamp(min=LEAST)
    # Among many duplicates a sample may miss itself; then its farthest neighbor is dropped.
    distance[place == rows[:, None]] = torch.inf
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :-1], place.gather(1, order[:, :-1])
