"""Isolation forest: images that few random splits isolate (Liu et al. 2008)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.ensemble import IsolationForest as Forest
from torch import Tensor

from clipmend.methods.detectors.local import embedded
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Count
from clipmend.metrics.neighbors import Reference
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class IsolationForest:
    """Scores each training pair by scikit-learn's forest on the victim's image embeddings.

    As in arXiv:2502.01385. scikit-learn's score is higher for normal samples, so it is negated.

    Attributes:
        trees: number of trees.
        reference: number of training pairs from which the trees take their samples.
    """

    trees: Count = 100
    reference: Count = 32768

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores: images that are easily isolated are suspect."""
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        images = assets.train().images
        reference, blocks = embedded(assets.model, images, self.reference, generator)
        return PairScores(torch.cat(list(self.scores(blocks, reference, seed))))

    def scores(
        self, blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference, seed: int
    ) -> Iterator[Float[Tensor, " block"]]:
        """Yield the scores of a stream of embeddings, block by block."""
        forest = Forest(n_estimators=self.trees, random_state=seed).fit(reference.embeds.numpy())
        for block in blocks:
            yield torch.from_numpy(-forest.score_samples(block.numpy()))
