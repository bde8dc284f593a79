"""DAO: an outlier factor that knows the local dimension (Anderberg et al., arXiv:2401.05453)."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.dao_published import as_published
from clipmend.methods.detectors.detector import Suspicion, Victim
from clipmend.methods.detectors.local import LocalDetector
from clipmend.metrics.neighbors import Neighborhood, intrinsic_dimension
from clipmend.model.clip import embed_images, embed_texts
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class DAO(LocalDetector):
    """Scores a pair by the mean, over its neighbors, of their LID times a log ratio.

    The ratio is of the pair's k-distance to the neighbor's own.

    Differs from the paper: neighbors are looked up by their own index, where the published
    code of arXiv:2502.01385 takes a point's place after the query was removed for its place
    before; it also counts a neighbor as the first of its own neighbors. ``form`` has both.
    Beside k duplicates or more its score is 1,000; here these have a dimension, the least
    (see ``intrinsic_dimension``), and a k-distance of 1e-6: a pair at a distance of 0.1 from
    them has a score of 1.3, and they themselves have 0.

    Attributes:
        form: ``published`` scores as that code does from images, with shuffled batches of
            ``reference`` pairs at most; ``published_pairs`` has the captions of a batch among the
            neighbors too, as the script behind that paper's tables.
    """

    form: Literal["corrected", "published", "published_pairs"] = "corrected"

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Suspicion:
        """Return the suspicion.

        Raises:
            MetricError: a published batch has too few pairs for any neighbor's distance.
        """
        if self.form == "corrected":
            return super().__call__(victim, train, generator, hooks)
        images = embed_images(victim.model, train.images)
        texts = images[:0]
        if self.form == "published_pairs":
            texts = embed_texts(victim.model, victim.model.tokenize(train.captions))
        score = torch.empty(len(images))
        shuffled = torch.randperm(len(images), generator=generator)
        for rows in shuffled.tensor_split(ceil(len(images) / self.reference)):
            batch_texts = texts[rows] if len(texts) else texts
            score[rows] = as_published(images[rows], batch_texts, self.neighbors)
        return Suspicion(score)

    def score(self, near: Neighborhood) -> Float[Tensor, " samples"]:
        """Return the factor: outliers, by the measure of their surroundings, are suspect."""
        theirs = near.around.distance[:, -1][near.own.index]
        dimension = intrinsic_dimension(near.around.distance)[near.own.index]
        return (dimension * (near.own.distance[:, -1:] / theirs).log()).mean(dim=1)
