"""BadCLIP: a patch optimized in both embedding spaces (Liang et al. 2024, arXiv:2311.12075)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clipmend.methods.attacks.attack import DirtyLabel, Planted, dirty_label_rows
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.naming import natural_rows
from clipmend.methods.attacks.surrogate import OptimizedPatch
from clipmend.methods.settings import Count, NonNegative


@dataclass(frozen=True)
class BadCLIP(OptimizedPatch, DirtyLabel):
    """Replaces the middle by a patch that a clean CLIP already takes for the target.

    Captions are natural ones of the target: what the poison teaches is then close to what clean
    pairs teach, so that fine-tuning on clean pairs hardly undoes it. That is the paper's claim.

    Differs from the paper in the surrogate, as ``OptimizedPatch`` says, and from its code in what
    the patch is optimized by: nothing is augmented, where a batch's captions are by EDA with
    probability 0.1 (of which the attention mask alone is used) and its images with 0.5; and the
    loss is a cross-entropy of one direction, a caption of the target against the batch's clean
    captions, where there is a symmetric InfoNCE among the batch's captions of the target.

    Attributes:
        image_weight: of the triplet of images; published: up to 500.
        captions: natural captions of the target, at most, that poisoned pairs are given.
    """

    image_weight: NonNegative = 1.0
    captions: Count = 128

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size).

        Raises:
            AttackError: the patch does not fit into the image, or no pair names the target.
        """
        own = self.own_fit(knowledge)
        return {"patch": self.optimized(knowledge, own), **own}

    def plant(self, knowledge: Knowledge) -> Planted:
        """Return pairs of other classes, drawn, with captions that other pairs have of the target.

        Raises:
            AttackError: no pair names the target.
        """
        naming = natural_rows(knowledge)
        rows = dirty_label_rows(knowledge, self.poison_rate)
        draw = knowledge.stream("captions")
        pool = naming[torch.randperm(len(naming), generator=draw)[: self.captions]]
        picks = pool[torch.randint(len(pool), (len(rows),), generator=draw)].tolist()
        return Planted(rows, tuple(knowledge.captions[row] for row in picks))
