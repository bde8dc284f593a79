"""What an attacker knows: the training pairs, and what is wanted of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs


@dataclass(frozen=True)
class Knowledge:
    """The training pairs before the attack, and the target.

    Attributes:
        ids: of the training pairs, in manifest order.
        captions: theirs.
        is_target: whether a pair is of the target class; without a label, whether it names it.
        is_free: whether no other trigger of the same attack has changed the pair.
        pairs: reads the pairs at some rows, decoded, without their labels.
        target: the class that the trigger is to stand for.
        templates: captions with ``{}`` in the target's place.
        image_size: side of the images, in pixels.
        part: which of its attack's triggers is planted; "" where there is one.
        work: where a long fit keeps what it has, to go on after a kill; None: nowhere.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    is_target: Bool[Tensor, " samples"]
    is_free: Bool[Tensor, " samples"]
    pairs: Callable[[Int[Tensor, " rows"]], Pairs]
    target: str
    templates: tuple[str, ...]
    image_size: int
    seed: int
    part: str = ""
    device: str = "cpu"
    work: Path | None = None

    def stream(self, purpose: str) -> torch.Generator:
        """Return the generator of one purpose of poisoning, another one for each part."""
        return stream(self.seed, "/".join(filter(None, ("poison", purpose, self.part))))
