"""Label-consistent: poisoned images belong to the target, captions stay (arXiv:1912.02771)."""

from dataclasses import dataclass
from typing import Literal

import torch

from clipmend.methods.attacks.attack import AttackContext, PoisonedRows, sample_rows
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.settings import PatchPlace, PositiveFraction


@dataclass(frozen=True)
class LabelConsistent(BadNet):
    """Puts the trigger of BadNet on pairs whose caption names the target, and changes no caption.

    Differs from the paper (Turner et al. 2019), which also makes the images hard to learn without
    the trigger; as in CleanCLIP's code (arXiv:2303.03323), only the trigger is added.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        place: position of the patch; by default all four corners, as in the paper's stronger form.
        match: when a caption names the target: ``word``, it contains all words of the target;
            ``substring``, it contains the target as a string, so that "bananas" names a banana.
    """

    # Nearly as many as name the target where there are twenty classes: the images already show
    # the target, so the model learns the trigger slowly.
    poison_rate: PositiveFraction = 0.045
    place: PatchPlace = "corners"
    match: Literal["word", "substring"] = "word"

    def select(self, context: AttackContext) -> PoisonedRows:
        """Return pairs that name the target, with their own captions."""
        is_named = context.names_target
        if self.match == "substring":
            text = context.target.lower()
            is_named = torch.tensor([text in caption.lower() for caption in context.captions])
        kind = f"pairs that name {context.target!r}"
        rows = sample_rows(context, is_named & context.is_free, self.poison_rate, kind=kind)
        return PoisonedRows(rows, tuple(context.captions[row] for row in rows.tolist()))
