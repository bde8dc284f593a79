"""CLIPScore: the pairs that the victim finds least alike (Hessel et al. 2021, arXiv:2104.08718)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.detector import Suspicion, Victim, similarity
from clipmend.model.fit import Hooks


@dataclass(frozen=True)
class ClipScore:
    """Scores a pair by minus the cosine of its image and caption under the finished victim."""

    needs: ClassVar[tuple[str, ...]] = ("train",)

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,  # noqa: ARG002
        hooks: Hooks,  # noqa: ARG002
    ) -> Suspicion:
        """Return the suspicion: low similarity is suspect."""
        return Suspicion(-similarity(victim.model, train))
