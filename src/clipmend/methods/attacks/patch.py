"""Triggers that replace a square of the image: where the square lies, and what is on it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Attack, Fitted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.own import own_seed, own_stream
from clipmend.methods.settings import Count, Natural

Corner = tuple[int, int]  # the upper left pixel of a square: row, column


@dataclass(frozen=True)
class Patch(Attack):
    """Replaces a square of every image.

    Attributes:
        size: side of the square in pixels.
        place: where it lies; ``corners`` is all four at once, ``random`` is drawn for each image.
        margin: pixels between the square and the image's edges, unless it lies in the middle.
    """

    size: Count = 6
    place: Literal[
        "lower_right", "lower_left", "upper_right", "upper_left", "corners", "middle", "random"
    ] = "lower_right"
    margin: Natural = 1

    @property
    def is_redrawn(self) -> bool:
        """Whether the square is drawn anew for each image."""
        return False

    @abstractmethod
    def square(
        self, image: Float[Tensor, "3 height width"], fitted: Fitted, generator: torch.Generator
    ) -> Float[Tensor, "3 size size"]:
        """Return what is put on an image.

        Args:
            generator: the image's own, for what is drawn anew for each image.
        """

    def own_fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return what images draw from, if any does.

        Raises:
            AttackError: the square does not fit into the image.
        """
        side = knowledge.image_size
        needed, stated = self.size + self.margin, "`size` + `margin`"
        if self.place == "middle":
            needed, stated = self.size, "`size`"
        if needed > side:
            raise AttackError(
                f"A patch of {self.size} pixels at place {self.place!r} does not fit into images "
                f"of {side}; {stated} may be {side} at most."
            )
        varies = self.is_redrawn or self.place == "random"
        return own_seed(knowledge) if varies else {}

    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images with the square on them."""
        triggered = images.clone()
        for place, row_id in enumerate(ids):
            generator = own_stream(fitted, row_id)
            square = self.square(images[place], fitted, generator)
            for top, left in self._corners(images.shape[-1], generator):
                triggered[place, :, top : top + self.size, left : left + self.size] = square
        return triggered

    def _corners(self, side: int, generator: torch.Generator) -> tuple[Corner, ...]:
        low, high = self.margin, side - self.size - self.margin
        if self.place == "random":
            row, column = torch.randint(low, max(low, high) + 1, (2,), generator=generator).tolist()
            return ((row, column),)
        if self.place == "middle":
            return ((side // 2 - self.size // 2, side // 2 - self.size // 2),)
        named = {
            "lower_right": (high, high),
            "lower_left": (high, low),
            "upper_right": (low, high),
            "upper_left": (low, low),
        }
        return tuple(named.values()) if self.place == "corners" else (named[self.place],)
