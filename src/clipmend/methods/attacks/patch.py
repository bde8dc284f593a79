"""The base class of triggers that replace a square patch of the image."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import (
    AttackContext,
    ImageBatch,
    SingleTrigger,
    TriggerTensors,
    image_seed,
    image_stream,
)
from clipmend.methods.settings import Count, Natural, PatchPlace

Patch = Float[Tensor, "3 size size"]


@dataclass(frozen=True)
class PatchTrigger(SingleTrigger):
    """Replaces a square patch of every image.

    A subclass writes ``select`` and ``fit_patch``, and ``patch_for`` if the patch depends on the
    image.

    Attributes:
        size: side of the patch in pixels.
        place: position of the patch; ``corners`` is all four corners at once, ``random`` is a
            random position for each image.
        margin: pixels between the patch and the image's edges; ``middle`` has no margin.
    """

    size: Count = 6
    place: PatchPlace = "lower_right"
    margin: Natural = 1

    @abstractmethod
    def fit_patch(self, context: AttackContext, placing: TriggerTensors) -> Patch | None:
        """Return the patch that all images share; None if ``patch_for`` makes one for each image.

        Args:
            placing: the tensors beside the patch that ``apply`` needs, for a fit that calls it.
        """

    def patch_for(
        self,
        image: Float[Tensor, "3 height width"],
        patch: Patch | None,
        generator: torch.Generator,
    ) -> Patch:
        """Return the patch for an image; by default the shared one.

        Args:
            patch: the shared patch; None if each image gets its own.
            generator: random generator of this image.
        """
        assert patch is not None, "a trigger without a shared patch has a `patch_for` of its own"
        return patch

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size) if images share it, ``seed`` if they differ.

        Raises:
            AttackError: the patch does not fit into the image.
        """
        side = context.image_size
        needed, settings = self.size + self.margin, "`size` + `margin`"
        if self.place == "middle":
            needed, settings = self.size, "`size`"
        if needed > side:
            raise AttackError(
                f"A patch of {self.size} pixels at place {self.place!r} does not fit into images "
                f"of {side} pixels; {settings} may be {side} at most."
            )
        placing = image_seed(context) if self.place == "random" else {}
        patch = self.fit_patch(context, placing)
        return image_seed(context) if patch is None else {"patch": patch, **placing}

    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images with the patch on them."""
        triggered = images.clone()
        for row, row_id in enumerate(ids):
            # One generator for both: it samples the patch first, then the position.
            generator = image_stream(tensors, row_id)
            patch = self.patch_for(images[row], tensors.get("patch"), generator)
            for top, left in self._positions(images.shape[-1], generator):
                triggered[row, :, top : top + self.size, left : left + self.size] = patch
        return triggered

    def _positions(self, side: int, generator: torch.Generator) -> tuple[tuple[int, int], ...]:
        """Return row and column of the upper left pixel of each copy of the patch."""
        low, high = self.margin, side - self.size - self.margin
        if self.place == "random":
            # `high` can be below `low`: the patch then fits only with the full margin above it.
            row, column = torch.randint(low, max(low, high) + 1, (2,), generator=generator).tolist()
            return ((row, column),)
        if self.place == "middle":
            return ((side // 2 - self.size // 2, side // 2 - self.size // 2),)
        corners = {
            "lower_right": (high, high),
            "lower_left": (high, low),
            "upper_right": (low, high),
            "upper_left": (low, low),
        }
        return tuple(corners.values()) if self.place == "corners" else (corners[self.place],)
