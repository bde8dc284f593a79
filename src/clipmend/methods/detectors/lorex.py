"""LoREx (low-rank exposure): one direction in which training images leave the trusted ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.errors import MetricError
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Fraction, Positive
from clipmend.model.clip import embed_images
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class LoREx:
    """Scores each training pair by its image along one direction of whitened embeddings.

    The mean and the covariance of the trusted images' embeddings whiten those of the training
    images. Trusted images then vary equally in all directions. The direction is the one in which
    the training images vary the most; poison adds variance where its images gather. The score is
    the absolute coordinate along it, in standard deviations of the trusted images.

    The method assumes one backdoor; several ones share their variance among several directions.

    Differs from the paper, an unpublished draft with its code (calibretaliation/LoREx, revision
    e0787e8): embeddings are normalized, and the regularization is a share of the variance.

    Attributes:
        ridge: added to each eigenvalue of the trusted covariance, as a share of their mean.
        quantile: a pair is a suspect if its score exceeds this quantile of the trusted scores.
    """

    ridge: Positive = 1e-3
    quantile: Fraction = 0.995

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, >= 0, and the suspects.

        Raises:
            MetricError: there is only one pair, or only one trusted pair.
        """
        trusted = embed_images(assets.model, assets.trusted().images)
        train = embed_images(assets.model, assets.train().images)
        if min(len(trusted), len(train)) < 2:
            raise MetricError(
                f"{hooks.label}: lorex needs at least 2 training pairs and 2 trusted pairs, and "
                f"there are {len(train)} and {len(trusted)}."
            )
        of_train, of_trusted = self.coordinates(train, trusted)
        threshold = of_trusted.quantile(self.quantile)
        return PairScores(of_train.float(), {"suspect": of_train > threshold})

    def coordinates(
        self, train: Float[Tensor, "samples dim"], trusted: Float[Tensor, "trusted dim"]
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, " trusted"]]:
        """Return the absolute coordinates of training and of trusted images, both >= 0."""
        values, vectors = torch.linalg.eigh(trusted.double().T.cov())
        values = values.clamp(min=0)
        scales = (values + self.ridge * values.mean()).rsqrt()
        # Without turning back to the first axes: no rotation changes a coordinate along `axis`.
        whiten = vectors * scales
        center = trusted.double().mean(dim=0)
        white_train, white_trusted = ((e.double() - center) @ whiten for e in (train, trusted))
        axis = torch.linalg.eigh(white_train.T.cov()).eigenvectors[:, -1]
        return (white_train @ axis).abs(), (white_trusted @ axis).abs()
