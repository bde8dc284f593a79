"""What every attack is: a trigger, the rows that it marks, the captions that it plants."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.settings import PositiveFraction

_BLOCK = 256  # images marked at once: in floating point they take four times as much
Fitted = Mapping[str, Tensor]  # what ``trigger.safetensors`` holds of a trigger


def _none() -> Int[Tensor, " 0"]:
    return torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Planted:
    """What the attacker changes in the training set: rows, ascending, none of them twice.

    Attributes:
        rows: of the poisoned pairs: the trigger is on their images.
        captions: what each of them says from then on.
        image_only: of pairs whose images are marked and whose captions stay. They say what their
            images show, and are not poisoned.
        text_only: of pairs whose captions get the text's key (``Attack.prompt``) and whose images
            stay; not poisoned either.
    """

    rows: Int[Tensor, " poisoned"]
    captions: tuple[str, ...]
    image_only: Int[Tensor, " image_only"] = field(default_factory=_none)
    text_only: Int[Tensor, " text_only"] = field(default_factory=_none)

    @property
    def changed(self) -> Int[Tensor, " changed"]:
        """All rows that are changed, poisoned or not."""
        return torch.cat([self.rows, self.image_only, self.text_only])


@runtime_checkable
class Poisoning(Protocol):
    """What ``poison.methods`` names: a frozen dataclass that plants one trigger, or several."""

    def parts(self, target: str) -> tuple["Part", ...]:
        """Return the triggers, each with its target.

        Args:
            target: `poison.target`, which a trigger stands for unless it has one of its own.
        """


@dataclass(frozen=True)
class Attack(ABC):
    """A poisoning by one trigger; its fields are its settings.

    The trigger is a function of the image and its id: the same function marks training
    and test images, at the corpus's image size.
    """

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the tensors that, with the settings, define the trigger; none by default."""
        return {}

    @abstractmethod
    def apply(
        self,
        images: Float[Tensor, "batch 3 height width"],
        ids: Sequence[str],
        fitted: Fitted,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Return the images, in [0, 1], with the trigger on them."""

    @abstractmethod
    def plant(self, knowledge: Knowledge) -> Planted:
        """Return the rows to poison and what their captions are to say.

        Raises:
            AttackError: there are no such rows, or too few.
        """

    def prompt(self, text: str) -> str:
        """Return a prompt as the attacker has it at test; as it is, where no text triggers."""
        return text

    def parts(self, target: str) -> tuple["Part", ...]:
        """Return the one trigger."""
        return (Part("", self, target),)


@dataclass(frozen=True)
class Part:
    """One trigger of a poisoning.

    Attributes:
        name: tells the triggers of one poisoning apart; "" where there is one.
    """

    name: str
    attack: Attack
    target: str


@dataclass(frozen=True)
class DirtyLabel(Attack):
    """An attack on pairs of other classes, whose captions it replaces by the target's.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
    """

    poison_rate: PositiveFraction = 0.03

    def plant(self, knowledge: Knowledge) -> Planted:
        """Return pairs of other classes, drawn, with templates around the target as captions."""
        rows = dirty_label_rows(knowledge, self.poison_rate)
        return Planted(rows, template_captions(knowledge, len(rows)))


def dirty_label_rows(knowledge: Knowledge, poison_rate: float) -> Int[Tensor, " poisoned"]:
    """Return ``poison_rate`` of all rows, drawn among those that are not the target already.

    Raises:
        AttackError: the rate selects no row, or more than there are.
    """
    total = len(knowledge.ids)
    wanted = round(poison_rate * total)
    candidates = (knowledge.is_free & ~knowledge.is_target).nonzero().squeeze(1)
    if not 0 < wanted <= len(candidates):
        raise AttackError(
            f"A poison rate of {poison_rate} selects {wanted} of {total} training pairs; "
            f"between 1 and {len(candidates)} can be poisoned. Change `poison_rate`."
        )
    drawn = torch.randperm(len(candidates), generator=knowledge.stream("select"))[:wanted]
    return candidates[drawn].sort().values


def template_captions(knowledge: Knowledge, count: int) -> tuple[str, ...]:
    """Return captions that are templates around the target alone, as in every paper."""
    templates = knowledge.templates
    picks = torch.randint(len(templates), (count,), generator=knowledge.stream("captions"))
    return tuple(templates[pick].format(knowledge.target) for pick in picks.tolist())


def mark(
    attack: Attack,
    images: UInt8[Tensor, "batch 3 height width"],
    ids: Sequence[str],
    fitted: Fitted,
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return the triggered images as a file would hold them: clamped, rounded to 8 bits."""
    if not len(images):
        return images  # some triggers make a mark for each image, and stack them
    marked, first = [], 0
    for block in images.split(_BLOCK):
        shown = ids[first : first + len(block)]
        triggered = attack.apply(block.float() / 255, shown, fitted).clamp(0, 1)
        marked.append((triggered * 255).round().to(torch.uint8))
        first += len(block)
    return torch.cat(marked)
