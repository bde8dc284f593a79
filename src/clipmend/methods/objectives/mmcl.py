"""MMCL: the multimodal contrastive loss of CLIP (Radford et al. 2021, arXiv:2103.00020)."""

from dataclasses import dataclass

from clipmend.methods.objectives.pretraining import Pretraining
from clipmend.methods.settings import ObjectiveName


@dataclass(frozen=True)
class MMCL(Pretraining):
    """Minimizes InfoNCE between images and captions, in both directions, over all training pairs.

    Attributes:
        start: the objective whose unpoisoned victim, of the same corpus and seed, is the initial
            model; None: a new model, or ``pretrain.pretrained``.
    """

    start: ObjectiveName | None = None
