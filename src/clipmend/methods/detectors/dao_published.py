"""DAO to the letter of the code published with arXiv:2502.01385, for one batch of pairs.

Four things there are not the definition, and are kept. The neighbors of a query, found with
itself left out, are numbered without it but looked up among all. Its own radius is the distance of
its (k+1)-th neighbor; that of a neighbor is of its k-th, since it counts itself. And the
dimension at a neighbor has that distance of 0 to itself among its k.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.errors import MetricError

_BLOCK = 1024  # queries at once, against a whole batch
_UNDEFINED = 1000.0  # the score where a neighbor has k duplicates, and the ratio is none
_LEAST = 1e-4  # added to every ratio of distances before its logarithm


def as_published(
    images: Float[Tensor, "batch dim"], texts: Float[Tensor, "texts dim"], k: int
) -> Float[Tensor, " batch"]:
    """Return the factor of each image among the batch, finite; higher is more suspect.

    Args:
        texts: points too, of the same pairs in the same order; or none.
        k: how many neighbors; fewer where the batch has no more.

    Raises:
        MetricError: the batch has no neighbor beyond the first.
    """
    points = torch.cat([images, texts])
    itself = torch.arange(len(images))[:, None]  # (query, point): its image, and its caption
    if len(texts):
        itself = torch.cat([itself, itself + len(images)], dim=1)
    k = min(k, len(points) - itself.shape[1] - 1)
    if k < 1:
        raise MetricError(
            f"The published dao cannot score a batch of {len(images)}, which has no neighbor "
            "beyond the first; raise `reference`, or give more pairs."
        )
    radius, dimension = _surroundings(points, k)
    factors = []
    for block, left_out in zip(images.split(_BLOCK), itself.split(_BLOCK), strict=True):
        distance, place = _nearest(block, points, left_out, k)
        ratio = distance[:, k:] / radius[place]
        factors.append((dimension[place] * ratio.log()).mean(dim=1))
    return torch.cat(factors).nan_to_num(nan=_UNDEFINED, posinf=_UNDEFINED, neginf=0.0)


def _surroundings(
    points: Float[Tensor, "points dim"], k: int
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """Return each point's radius and dimension, the point itself being its first neighbor."""
    nobody = torch.empty(len(points), 0, dtype=torch.long)
    blocks = zip(points.split(_BLOCK), nobody.split(_BLOCK), strict=True)
    distance = torch.cat([_nearest(block, points, out, k)[0] for block, out in blocks])
    ratio = distance[:, :k] / distance[:, k:]
    return distance[:, k], -k / (ratio + _LEAST).log().sum(dim=1)


def _nearest(
    queries: Float[Tensor, "queries dim"],
    points: Float[Tensor, "points dim"],
    left_out: Int[Tensor, "queries out"],
    k: int,
) -> tuple[Float[Tensor, "queries more"], Int[Tensor, "queries k"]]:
    """Return the k + 1 least distances, and the places of the k nearest without those left out."""
    distance = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    distance.scatter_(1, left_out, torch.inf)
    nearest = distance.topk(k + 1, largest=False)
    index = nearest.indices[:, :k]
    gone_before = (index[:, :, None] > left_out[:, None, :]).sum(dim=2)
    return nearest.values, index - gone_before
