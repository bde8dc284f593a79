"""Isolation forest: how few cuts set an image apart (Liu et al. 2008)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.ensemble import IsolationForest as Forest

from clipmend.clip.fit import Hooks
from clipmend.clip.model import embed_images
from clipmend.corpus.splits import Pairs
from clipmend.detect.detector import Suspicion, Victim
from clipmend.settings import Count


@dataclass(frozen=True)
class IsolationForest:
    """Scores a pair by scikit-learn's forest on image embeddings of the finished victim.

    As in arXiv:2502.01385. scikit-learn's score is higher for what is normal, so that its
    sign is turned.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    trees: Count = 100

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,  # noqa: ARG002
    ) -> Suspicion:
        """Return the suspicion: images that are easily set apart are suspect."""
        embeds = embed_images(victim.model, train.images).numpy()
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        forest = Forest(n_estimators=self.trees, random_state=seed).fit(embeds)
        return Suspicion(torch.from_numpy(-forest.score_samples(embeds)))
