"""What a cleaning run is made of, before its loop: pairs, the victim's weights, a loss."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.streaming import join_images
from clipmend.errors import TrainingError
from clipmend.methods.repairs.repair import Means
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch, Loss


def cleaning_pairs(means: Means, *, pairs: int, poisons: int) -> Pairs:
    """Return the first ``pairs`` trusted pairs (0: all), poisoned ones in the place of the last.

    Raises:
        TrainingError: there are not so many.
    """
    trusted = means.trusted
    count = pairs or len(trusted)
    if count > len(trusted):
        raise TrainingError(
            f"{count} trusted pairs are to be cleaned with, but the corpus has {len(trusted)}; "
            "lower `pairs` or give the corpus more of them."
        )
    if poisons > count:
        raise TrainingError(
            f"{poisons} poisoned pairs are to take the place of trusted ones, but only {count} "
            "pairs are cleaned with; lower `poisons`."
        )
    left = count - poisons
    kept = trusted if left == len(trusted) else trusted.take(torch.arange(left))
    return _joined(kept, means.slipped(poisons)) if poisons else kept


def shrink_and_perturb(
    means: Means, *, shrink: float, perturb: float, generator: torch.Generator
) -> None:
    """Make every parameter ``shrink`` times itself + ``perturb`` times an untrained model's.

    As Ash & Adams 2020, arXiv:1910.08475. Statistics of batch norm, which no gradient moves, stay.
    """
    if shrink == 1 and perturb == 0:
        return
    fresh = means.fresh(int(torch.randint(2**31, (), generator=generator)))
    with torch.no_grad():
        paired = zip(means.model.net.parameters(), fresh.net.parameters(), strict=True)
        for parameter, drawn in paired:
            parameter.mul_(shrink).add_(drawn, alpha=perturb)


def weighted_multimodal(weight: float) -> Loss:
    """Return ``weight`` MMCL, which needs no views."""

    def loss(model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        return weight * multimodal(model, batch, generator)

    return loss


def _joined(trusted: Pairs, slipped: Pairs) -> Pairs:
    return Pairs(
        ids=trusted.ids + slipped.ids,
        images=join_images([trusted.images, slipped.images]),
        captions=trusted.captions + slipped.captions,
        label=torch.cat([trusted.label, slipped.label]),
        is_poisoned=torch.cat([trusted.is_poisoned, slipped.is_poisoned]),
    )
