"""The scale at which a corpus was tested, which stands beside the outcome of every claim."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The size of a corpus and of the model; None where no cell states it.

    Attributes:
        train_pairs: the number of training pairs, poisoned ones among them.
        trusted_pairs: the number of clean pairs that a defender has.
        poisoned_pairs: attack -> number of poisoned pairs, the largest of several seeds.
        image_size: the side of an image, in pixels.
        model: the architecture, as in ``pretrain.model``.
        pretrained: the checkpoint that training started from; None for random weights.
    """

    train_pairs: int | None
    trusted_pairs: int | None
    poisoned_pairs: Mapping[str, int]
    image_size: int | None
    model: str | None
    pretrained: str | None

    def text(self) -> str:
        """Return the scale in words."""
        counts = sorted(count for count in self.poisoned_pairs.values() if count)
        parts = []
        if self.train_pairs is not None:
            few, many = (counts[0], counts[-1]) if counts else (0, 0)
            span = f"{few:,}" if few == many else f"{few:,} to {many:,}"
            poison = f" ({span} poisoned)" if counts else ""
            parts.append(f"{self.train_pairs:,} training pairs{poison}")
        if self.trusted_pairs is not None:
            parts.append(f"{self.trusted_pairs:,} trusted")
        if self.image_size is not None:
            parts.append(f"{self.image_size} pixels")
        if self.model is not None:
            start = "trained from nothing" if self.pretrained is None else f"from {self.pretrained}"
            parts.append(f"{self.model} {start}")
        return ", ".join(parts)
