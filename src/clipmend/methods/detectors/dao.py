"""DAO (dimensionality-aware outlier detection; Anderberg et al. 2024, arXiv:2401.05453)."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.errors import MetricError
from clipmend.methods.detectors.local import LocalDetector
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.metrics.neighbors import Neighborhood, intrinsic_dimension
from clipmend.model.clip import embed_images, embed_texts
from clipmend.model.fit import Hooks

# Of the published code alone:
_BLOCK = 1024  # queries compared with a batch at once
_UNDEFINED = 1000.0  # the score beside a neighbor with k duplicates, where the ratio is undefined
_LEAST = 1e-4  # added to each ratio of distances before its logarithm


@dataclass(frozen=True)
class DAO(LocalDetector):
    """Scores each training pair by the mean, over its image's neighbors, of LID times log ratio.

    LID is the neighbor's local intrinsic dimensionality. The ratio is that of the pair's k-distance
    to the neighbor's.

    Differs from the paper: neighbors are looked up by their own index. The published code of
    arXiv:2502.01385 confuses indices that include the query with indices that do not. It also
    counts a neighbor as the first of its own neighbors. ``form`` offers both versions.

    Beside k or more duplicates, the published score is 1,000. Here the duplicates have the least
    dimensionality (see ``intrinsic_dimension``) and a k-distance of 1e-6. A pair at a distance of
    0.1 from them scores 1.3, and they themselves score 0.

    Attributes:
        form: ``corrected`` follows the definition. ``published`` scores as that code does with
            images, in shuffled batches of at most ``reference`` pairs. ``published_pairs`` adds
            the captions of a batch to the neighbors, as the script behind that paper's tables does.
    """

    form: Literal["corrected", "published", "published_pairs"] = "corrected"

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores.

        Raises:
            MetricError: a batch of a published form is too small.
        """
        if self.form == "corrected":
            return super().__call__(assets, generator, hooks)
        model, train = assets.model, assets.train()
        images = embed_images(model, train.images)
        texts = images[:0]
        if self.form == "published_pairs":
            texts = embed_texts(model, model.tokenize(train.captions))
        score = torch.empty(len(images))
        shuffled = torch.randperm(len(images), generator=generator)
        for rows in shuffled.tensor_split(ceil(len(images) / self.reference)):
            batch_texts = texts[rows] if len(texts) else texts
            score[rows] = as_published(images[rows], batch_texts, self.neighbors)
        return PairScores(score)

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the factor: images that are outliers of their surroundings are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        dimension = intrinsic_dimension(near.around.distance)[near.own.index]
        return (dimension * (near.own.distance[:, -1:] / theirs).log()).mean(dim=1)


def as_published(
    images: Float[Tensor, "batch dim"], texts: Float[Tensor, "texts dim"], k: int
) -> Float[Tensor, " batch"]:
    """Return each image's factor among the batch as the code of arXiv:2502.01385 computes it.

    Four points of that code differ from the definition, and are kept. The neighbors of a query are
    numbered without the query, but looked up among all points. A query's radius is the distance to
    its (k+1)-th neighbor. A neighbor's radius is that to its k-th, because it counts itself. And a
    neighbor's dimensionality includes its distance of 0 to itself.

    Args:
        texts: the embeddings of the same pairs' captions, which are points too; or no rows.
        k: number of neighbors; fewer where the batch is too small.

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
            f"The published form of dao cannot score a batch of {len(images)} pairs, which has no "
            "neighbor beyond the first; raise `reference`, or use more pairs."
        )
    # Around a neighbor, the point itself is its first neighbor.
    nobody = torch.empty(len(points), 0, dtype=torch.long)
    blocks = zip(points.split(_BLOCK), nobody.split(_BLOCK), strict=True)
    around = torch.cat([_nearest(block, points, out, k)[0] for block, out in blocks])
    radius, ratio = around[:, k], around[:, :k] / around[:, k:]
    dimension = -k / (ratio + _LEAST).log().sum(dim=1)
    factors = []
    for block, left_out in zip(images.split(_BLOCK), itself.split(_BLOCK), strict=True):
        distance, place = _nearest(block, points, left_out, k)
        ratio = distance[:, k:] / radius[place]
        factors.append((dimension[place] * ratio.log()).mean(dim=1))
    return torch.cat(factors).nan_to_num(nan=_UNDEFINED, posinf=_UNDEFINED, neginf=0.0)


def _nearest(
    queries: Float[Tensor, "queries dim"],
    points: Float[Tensor, "points dim"],
    left_out: Int[Tensor, "queries out"],
    k: int,
) -> tuple[Float[Tensor, "queries more"], Int[Tensor, "queries k"]]:
    """Return the k + 1 least distances, and the k nearest, numbered without those left out."""
    distance = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    distance.scatter_(1, left_out, torch.inf)
    nearest = distance.topk(k + 1, largest=False)
    index = nearest.indices[:, :k]
    gone_before = (index[:, :, None] > left_out[:, None, :]).sum(dim=2)
    return nearest.values, index - gone_before
