"""What every attack is: a trigger, the rows that it marks, the captions that it plants."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from clipmend.errors import AttackError

Fitted = Mapping[str, Tensor]  # what ``trigger.safetensors`` holds


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass; its fields are its settings.

    The trigger is a function of the image and its id: the same function marks training
    and test images, at the corpus's image size.
    """

    def fit(self, image_size: int, seed: int) -> dict[str, Tensor]:
        """Return the tensors that, with the settings, define the trigger."""

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images, in [0, 1], with the trigger on them."""

    def rows(
        self, is_target: Bool[Tensor, " samples"], generator: torch.Generator
    ) -> Int[Tensor, " poisoned"]:
        """Return the rows to poison, ascending.

        Args:
            is_target: whether each training pair already belongs to the target class.
        """


def mark(
    attack: Attack,
    images: UInt8[Tensor, "batch 3 height width"],
    ids: Sequence[str],
    fitted: Fitted,
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return the triggered images as a file would hold them: clamped, rounded to 8 bits."""
    triggered = attack.apply(images.float() / 255, ids, fitted).clamp(0, 1)
    return (triggered * 255).round().to(torch.uint8)


def dirty_label_rows(
    is_target: Bool[Tensor, " samples"], poison_rate: float, generator: torch.Generator
) -> Int[Tensor, " poisoned"]:
    """Return ``poison_rate`` of all rows, drawn among those that are not the target already.

    Raises:
        AttackError: the rate selects no row, or more than there are.
    """
    wanted = round(poison_rate * len(is_target))
    candidates = (~is_target).nonzero().squeeze(1)
    if not 0 < wanted <= len(candidates):
        raise AttackError(
            f"A poison rate of {poison_rate} selects {wanted} of {len(is_target)} training pairs; "
            f"between 1 and {len(candidates)} can be poisoned. Change `poison_rate`."
        )
    drawn = torch.randperm(len(candidates), generator=generator)[:wanted]
    return candidates[drawn].sort().values
