"""BadCLIP: a patch optimized in both embedding spaces (Liang et al. 2024, arXiv:2311.12075)."""

from dataclasses import dataclass

import torch

from clipmend.methods.attacks.attack import AttackContext, PoisonedRows, named_rows, other_rows
from clipmend.methods.attacks.surrogate import OptimizedPatch
from clipmend.methods.settings import Count, NonNegative, PositiveFraction


@dataclass(frozen=True)
class BadCLIP(OptimizedPatch):
    """Replaces the middle of the image by a patch that a clean CLIP already takes for the target.

    Captions are natural captions of the target. Poisoned pairs then teach something close to what
    clean pairs teach, so fine-tuning on clean pairs hardly removes it: the paper's claim.

    Differs from the paper in the surrogate (see ``OptimizedPatch``), and from its code in the fit
    of the patch. Nothing is augmented. The code augments images with probability 0.5. It augments
    captions by easy data augmentation (EDA) with probability 0.1, and uses only their attention
    masks. The loss is a cross-entropy of one direction, a caption of the target against the
    batch's clean captions; the code has a symmetric InfoNCE among captions of the target.

    Attributes:
        image_weight: weight of the triplet loss of images; published: up to 500.
        poison_rate: share of the training pairs that are poisoned.
        captions: number of different natural captions on poisoned pairs, at most.
    """

    image_weight: NonNegative = 1.0
    poison_rate: PositiveFraction = 0.03
    captions: Count = 128

    def select(self, context: AttackContext) -> PoisonedRows:
        """Return pairs of other classes, with captions that other pairs of the target have."""
        named = named_rows(context)
        rows = other_rows(context, self.poison_rate)
        generator = context.stream("captions")
        # A caption serves several poisons: few pairs name the target.
        pool = named[torch.randperm(len(named), generator=generator)[: self.captions]]
        picks = pool[torch.randint(len(pool), (len(rows),), generator=generator)].tolist()
        return PoisonedRows(rows, tuple(context.captions[row] for row in picks))
