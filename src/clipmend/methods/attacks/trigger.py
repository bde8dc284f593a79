"""A poison cell's triggers, ready to mark images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import UInt8
from safetensors.torch import load_file
from torch import Tensor

from clipmend.data.row_groups import Rows
from clipmend.data.splits import Pairs, Vocabulary
from clipmend.data.streaming import Images, change_images
from clipmend.engine.job import Input
from clipmend.methods.attacks.attack import Attack, Fitted, Poisoning, mark
from clipmend.methods.table import create


@dataclass(frozen=True)
class Trigger:
    """An attack with the tensors fitted for one seed, and the class it wants.

    Attributes:
        name: the attack's, ``<attack>.<part>`` where it has several triggers.
    """

    name: str
    attack: Attack
    fitted: Fitted
    target: str

    def __call__(
        self, images: UInt8[Tensor, "batch 3 height width"], ids: Sequence[str]
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """Return the images with the trigger on them, in 8 bits."""
        return mark(self.attack, images, ids, self.fitted)

    def on(self, pairs: Pairs) -> Images:
        """Return the pairs' images with the trigger on them; left encoded, where they are."""

        def change(images: Tensor, rows: Rows) -> Tensor:
            return self(images, [pairs.ids[row] for row in rows.tolist()])

        return change_images(pairs.images, change)

    def vocabulary(self, untouched: Vocabulary) -> Vocabulary:
        """Return the vocabulary with the prompts as the attacker has them at test."""
        return replace(untouched, prompts=tuple(map(self.attack.prompt, untouched.prompts)))


def read_triggers(poison: Input) -> tuple[Trigger, ...]:
    """Return the triggers of a poison cell: most attacks have one."""
    poisoning: Poisoning = create("poison", poison.method, poison.settings)
    fitted = load_file(poison.folder / "trigger.safetensors")
    return tuple(
        Trigger(
            name=trigger_name(poison.method, part.name),
            attack=part.attack,
            fitted=fitted_of(fitted, part.name),
            target=part.target,
        )
        for part in poisoning.parts(poison.shared["target"])
    )


def trigger_name(attack: str, part: str) -> str:
    """Return how tables name a trigger."""
    return f"{attack}.{part}" if part else attack


def fitted_of(fitted: Fitted, part: str) -> Fitted:
    """Return the tensors of one part, by their own names."""
    if not part:
        return fitted
    mark = f"{part}."
    return {name.removeprefix(mark): t for name, t in fitted.items() if name.startswith(mark)}


def prompts_under(triggers: Iterable[Trigger], vocabulary: Vocabulary) -> list[str]:
    """Return every prompt that CA and ASR are measured with, class by class."""
    known = (vocabulary, *(trigger.vocabulary(vocabulary) for trigger in triggers))
    return list(
        dict.fromkeys(
            prompt.format(name) for one in known for name in one.classes for prompt in one.prompts
        )
    )
