"""The fitted triggers of a poison cell, ready to mark images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from safetensors.torch import load_file
from torch import Tensor

from clipmend.data import artifacts
from clipmend.data.row_groups import Rows
from clipmend.data.splits import Pairs, Vocabulary
from clipmend.data.streaming import Images, change_images
from clipmend.engine.job import Input
from clipmend.methods.attacks.attack import Attack, ByteBatch, TriggerSpec, TriggerTensors
from clipmend.methods.table import create


@dataclass(frozen=True)
class Trigger:
    """A trigger with the tensors that were fitted for one seed.

    Attributes:
        method: name of the attack in ``params.yaml``.
        spec: the trigger before it was fitted, and its target.
        tensors: the fitted tensors.
    """

    method: str
    spec: TriggerSpec
    tensors: TriggerTensors

    @property
    def name(self) -> str:
        """The name in tables: the attack's, or ``<attack>.<part>`` if it has several triggers."""
        return f"{self.method}.{self.spec.part}" if self.spec.part else self.method

    @property
    def target(self) -> str:
        """The class as which the model is to classify triggered images."""
        return self.spec.target

    def __call__(self, images: ByteBatch, ids: Sequence[str]) -> ByteBatch:
        """Return the images with the trigger on them, in 8 bits."""
        return self.spec.attack.mark(images, ids, self.tensors)

    def on(self, pairs: Pairs) -> Images:
        """Return the pairs' images with the trigger on them; lazy images stay lazy."""

        def change(images: Tensor, rows: Rows) -> Tensor:
            return self(images, [pairs.ids[row] for row in rows.tolist()])

        return change_images(pairs.images, change)

    def vocabulary(self, clean: Vocabulary) -> Vocabulary:
        """Return the vocabulary with the text trigger in each prompt."""
        return replace(clean, prompts=tuple(map(self.spec.attack.prompt, clean.prompts)))


def named_tensors(triggers: Iterable[Trigger]) -> dict[str, Tensor]:
    """Return the tensors of all triggers, as ``trigger.safetensors`` names them."""
    return {
        f"{_prefix(trigger.spec)}{name}": tensor
        for trigger in triggers
        for name, tensor in trigger.tensors.items()
    }


def read_triggers(poison: Input) -> tuple[Trigger, ...]:
    """Return the triggers of a poison cell; most attacks have a single trigger."""
    attack: Attack = create("poison", poison.method, poison.settings)
    stored = load_file(poison.folder / artifacts.TRIGGER_TENSORS)
    triggers = []
    for spec in attack.specs(poison.shared["target"]):
        prefix = _prefix(spec)
        own = {
            name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)
        }
        triggers.append(Trigger(poison.method, spec, own))
    return tuple(triggers)


def _prefix(spec: TriggerSpec) -> str:
    return f"{spec.part}." if spec.part else ""


def prompts_under(triggers: Iterable[Trigger], vocabulary: Vocabulary) -> list[str]:
    """Return every prompt of the zero-shot classifier, clean and under each trigger, once."""
    vocabularies = (vocabulary, *(trigger.vocabulary(vocabulary) for trigger in triggers))
    return list(
        dict.fromkeys(
            prompt.format(name)
            for each in vocabularies
            for name in each.classes
            for prompt in each.prompts
        )
    )
