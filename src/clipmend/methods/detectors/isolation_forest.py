"""Isolation forest: how few cuts set an image apart (Liu et al. 2008)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from sklearn.ensemble import IsolationForest as Forest
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.detector import Suspicion, Victim
from clipmend.methods.detectors.local import embedded
from clipmend.methods.settings import Count
from clipmend.metrics.neighbors import Reference
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class IsolationForest:
    """Scores a pair by scikit-learn's forest on image embeddings of the finished victim.

    As in arXiv:2502.01385. scikit-learn's score is higher for what is normal, so that its
    sign is turned.

    Attributes:
        reference: how many training pairs the trees' samples are drawn from.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    trees: Count = 100
    reference: Count = 32768

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,  # noqa: ARG002
    ) -> Suspicion:
        """Return the suspicion: images that are easily set apart are suspect."""
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        reference, blocks = embedded(victim.model, train.images, self.reference, generator)
        return Suspicion(torch.cat(list(self.scores(blocks, reference, seed))))

    def scores(
        self, blocks: Iterable[Float[Tensor, "_ dim"]], reference: Reference, seed: int
    ) -> Iterator[Float[Tensor, " block"]]:
        """Yield the scores of a stream of embeddings, in order, block by block."""
        forest = Forest(n_estimators=self.trees, random_state=seed).fit(reference.embeds.numpy())
        for block in blocks:
            yield torch.from_numpy(-forest.score_samples(block.numpy()))
