"""A poison cell's trigger, ready to mark images."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from safetensors.torch import load_file
from torch import Tensor

from clipmend.attacks.attack import Attack, Fitted, mark
from clipmend.job import Input
from clipmend.methods import create


@dataclass(frozen=True)
class Trigger:
    """An attack with the tensors fitted for one seed, and the class it wants."""

    attack: Attack
    fitted: Fitted
    target: str

    def __call__(
        self, images: UInt8[Tensor, "batch 3 height width"], ids: Sequence[str]
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """Return the images with the trigger on them, in 8 bits."""
        return mark(self.attack, images, ids, self.fitted)


def read_trigger(poison: Input) -> Trigger:
    """Return the trigger of a poison cell."""
    attack: Attack = create("poison", poison.method, poison.settings)
    fitted = load_file(poison.folder / "trigger.safetensors")
    return Trigger(attack, fitted, poison.shared["target"])
