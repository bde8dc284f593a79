"""BackdoorIDS: a jump of the embedding while an image is masked (arXiv:2603.11664)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from scipy.cluster.hierarchy import linkage
from torch import Tensor

from clipmend.methods.input_detection import InputDetector, Operation, Scorer
from clipmend.methods.settings import PositiveFraction, Several


@dataclass(frozen=True)
class BackdoorIDS(InputDetector):
    """Scores an image by the largest jump of its embedding while more and more of it is masked.

    As long as the trigger is visible, it holds the embedding; once it is masked, the embedding
    moves to what the image shows. The embeddings of one image, at all mask ratios, then form two
    clusters. The score is the smallest distance at which DBSCAN, with clusters of one point or
    more, joins all of them. A threshold on it is thus DBSCAN's distance.

    Differs from the paper, whose abstract is all that we know: DBSCAN's distance is set by trusted
    images, for a false positive rate. The masked cells, their order and their filling are ours.

    Attributes:
        ratios: number of mask ratios, from 0 to the largest, evenly spaced.
        largest: the largest mask ratio.
        cells: cells along each side of the image, which are masked as a whole.
    """

    ratios: Several = 10
    largest: PositiveFraction = 0.9
    cells: Several = 16

    def scorer(self, operation: Operation, generator: torch.Generator) -> Scorer:
        """Return a function whose scores are >= 0: Euclidean distances of embeddings."""
        order = torch.randperm(self.cells**2, generator=generator)

        def score(images: UInt8[Tensor, "samples 3 height width"]) -> Float[Tensor, " samples"]:
            height, width = images.shape[-2:]
            # The mean color, since black cells would be edges that the image does not have.
            fill = images.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
            stages = [
                operation.images(torch.where(mask, fill, images))
                for mask in self.masks(order, height, width)
            ]
            return torch.tensor([joined_at(path) for path in torch.stack(stages, dim=1)])

        return score

    def masks(self, order: Tensor, height: int, width: int) -> list[Bool[Tensor, "height width"]]:
        """Return the masks of all ratios; each contains the one before."""
        rank = order.argsort().view(1, 1, self.cells, self.cells).float() / len(order)
        pixels = F.interpolate(rank, (height, width), mode="nearest")[0, 0]
        ratios = torch.linspace(0, self.largest, self.ratios)
        return [pixels < ratio for ratio in ratios]


def joined_at(points: Float[Tensor, "points dim"]) -> float:
    """Return the smallest distance at which single linkage joins all points into one cluster."""
    return float(linkage(points.double().numpy(), "single")[-1, 2])
