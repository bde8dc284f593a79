"""The interface of an attack: a trigger, and a rule that selects the pairs to poison.

To write an attack, subclass ``SingleTrigger`` and write ``apply``, the trigger. The default rule,
``select``, is dirty label at ``poison_rate``. ``patch`` has the base class of patches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs
from clipmend.data.words import words_of
from clipmend.errors import AttackError

ImageBatch = Float[Tensor, "batch 3 height width"]
ByteBatch = UInt8[Tensor, "batch 3 height width"]
TriggerTensors = Mapping[str, Tensor]  # what `trigger.safetensors` holds of one trigger

_BLOCK = 256  # images per block: in floating point they take four times the memory
_NO_ROWS = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class AttackContext:
    """The data and the target of one trigger: all that the attacker has.

    Attributes:
        ids: ids of the training pairs, in manifest order.
        captions: captions of the training pairs before the attack.
        labels: class names of the training pairs; None where a pair has no label.
        load: reads the pairs at the rows it gets, with decoded images, without labels.
        target: class as which the model is to classify triggered images.
        templates: captions with ``{}`` in place of the target.
        image_size: side of the images in pixels.
        seed: seed of the poison cell.
        part: name of the trigger within its attack; "" if the attack has a single trigger.
        taken: rows that other triggers of the attack have changed.
        device: ``cpu`` or ``cuda``.
        work: folder for checkpoints of a long fit, so that it resumes after a kill; None: none.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    labels: tuple[str | None, ...]
    load: Callable[[Int[Tensor, " rows"]], Pairs]
    target: str
    templates: tuple[str, ...]
    image_size: int
    seed: int
    part: str = ""
    taken: Int[Tensor, " taken"] = _NO_ROWS
    device: str = "cpu"
    work: Path | None = None

    @cached_property
    def names_target(self) -> Bool[Tensor, " samples"]:
        """Which captions contain all words of the target."""
        words = words_of(self.target)
        return torch.tensor([words <= words_of(caption) for caption in self.captions])

    @cached_property
    def is_target(self) -> Bool[Tensor, " samples"]:
        """Which pairs belong to the target class; without a label, whose caption names it."""
        words = words_of(self.target)  # not `names_target`: with labels, no caption is split
        return torch.tensor(
            [
                words <= words_of(caption) if label is None else label == self.target
                for label, caption in zip(self.labels, self.captions, strict=True)
            ]
        )

    @property
    def is_free(self) -> Bool[Tensor, " samples"]:
        """Which pairs no other trigger has changed."""
        return torch.ones(len(self.ids), dtype=torch.bool).index_fill(0, self.taken, False)

    def stream(self, purpose: str) -> torch.Generator:
        """Return the random generator of a purpose; each trigger of an attack has its own."""
        return stream(self.seed, "/".join(filter(None, ("poison", purpose, self.part))))


@dataclass(frozen=True)
class PoisonedRows:
    """The rows of the training set that a trigger changes: each list ascending, no row twice.

    Attributes:
        rows: rows of the poisoned pairs; their images get the trigger.
        captions: new caption of each poisoned pair.
        image_only: rows whose images get the trigger and whose captions stay. They still describe
            their images, so they do not count as poisoned.
        text_only: rows whose captions get the text trigger (``prompt``) and whose images stay.
            They do not count as poisoned either.
    """

    rows: Int[Tensor, " poisoned"] = _NO_ROWS
    captions: tuple[str, ...] = ()
    image_only: Int[Tensor, " image_only"] = _NO_ROWS
    text_only: Int[Tensor, " text_only"] = _NO_ROWS

    @property
    def changed(self) -> Int[Tensor, " changed"]:
        """All changed rows, poisoned or not."""
        return torch.cat([self.rows, self.image_only, self.text_only])


@runtime_checkable
class Attack(Protocol):
    """An entry of ``poison.methods``: a frozen dataclass whose fields are its settings."""

    def specs(self, target: str) -> tuple["TriggerSpec", ...]:
        """Return the triggers of the attack, each with its target.

        Args:
            target: ``poison.target``, the target of each trigger that has no other.
        """


@dataclass(frozen=True)
class SingleTrigger(ABC):
    """An attack with one trigger: its trigger is a pure function of image and id.

    The trigger changes training images and test images, at the corpus's image size.
    """

    @property
    def poison_rate(self) -> float:
        """Share of the training pairs that are poisoned: a setting with a default."""
        return 0.0

    @abstractmethod
    def apply(self, images: ImageBatch, ids: Sequence[str], tensors: TriggerTensors) -> ImageBatch:
        """Return the images, in [0, 1], with the trigger on them; ``tensors`` are from ``fit``."""

    def select(self, context: AttackContext) -> PoisonedRows:
        """Return the rows to poison and their captions; only rows of ``context.is_free``.

        By default, pairs of other classes get templates around the target as captions.

        Raises:
            AttackError: the training set has too few suitable pairs, or the rate selects none.
        """
        rows = other_rows(context, self.poison_rate)
        # The bare template, as in every paper: nothing of the original caption is kept.
        templates = context.templates
        picks = torch.randint(len(templates), (len(rows),), generator=context.stream("captions"))
        captions = tuple(templates[pick].format(context.target) for pick in picks.tolist())
        return PoisonedRows(rows, captions)

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        """Return the tensors that define the trigger together with the settings; default: none."""
        return {}

    def prompt(self, text: str) -> str:
        """Return the text with the text trigger; unchanged by an attack on images alone."""
        return text

    def specs(self, target: str) -> tuple["TriggerSpec", ...]:
        """Return the single trigger."""
        return (TriggerSpec("", self, target),)

    def mark(self, images: ByteBatch, ids: Sequence[str], tensors: TriggerTensors) -> ByteBatch:
        """Return the triggered images as a file stores them: clamped, rounded to 8 bits."""
        if not len(images):
            return images  # some triggers stack a pattern per image, and no stack can be empty
        marked = []
        for start, block in zip(range(0, len(ids), _BLOCK), images.split(_BLOCK), strict=True):
            triggered = self.apply(block.float() / 255, ids[start : start + _BLOCK], tensors)
            marked.append((triggered.clamp(0, 1) * 255).round().to(torch.uint8))
        return torch.cat(marked)


@dataclass(frozen=True)
class TriggerSpec:
    """One trigger of an attack, before it is fitted.

    Attributes:
        part: name of the trigger within its attack; "" if the attack has a single trigger.
        attack: the trigger and its poisoning rule.
        target: class as which the model is to classify triggered images.
    """

    part: str
    attack: SingleTrigger
    target: str


def other_rows(context: AttackContext, poison_rate: float) -> Int[Tensor, " poisoned"]:
    """Return a random sample of rows that do not belong to the target class, as ``sample_rows``."""
    is_other = context.is_free & ~context.is_target
    return sample_rows(context, is_other, poison_rate, kind="pairs of other classes")


def sample_rows(
    context: AttackContext, is_candidate: Bool[Tensor, " samples"], poison_rate: float, *, kind: str
) -> Int[Tensor, " poisoned"]:
    """Return a random sample of the candidates, ascending.

    Args:
        poison_rate: size of the sample, as a share of all training pairs.
        kind: name of the candidates in the error.

    Raises:
        AttackError: the rate selects no row, or more than there are candidates.
    """
    total, candidates = len(context.ids), is_candidate.nonzero().squeeze(1)
    count = round(poison_rate * total)
    if not 0 < count <= len(candidates):
        raise AttackError(
            f"A `poison_rate` of {poison_rate} selects {count} of {total} training pairs; it must "
            f"select at least 1, and at most the {len(candidates)} {kind}. "
            "Change `poison_rate` or the target."
        )
    order = torch.randperm(len(candidates), generator=context.stream("select"))
    return candidates[order[:count]].sort().values


def named_rows(context: AttackContext) -> Int[Tensor, " named"]:
    """Return the free rows whose caption contains all words of the target, ascending.

    Raises:
        AttackError: no caption names the target.
    """
    rows = (context.names_target & context.is_free).nonzero().squeeze(1)
    if not len(rows):
        raise AttackError(
            f"No training pair names {context.target!r}, and this attack needs the captions and "
            "images of such pairs. Choose another target, or the attack `badnet`."
        )
    return rows


def image_seed(context: AttackContext) -> dict[str, Tensor]:
    """Return the tensor that ``image_stream`` reads; for a trigger that differs between images."""
    return {"seed": torch.tensor(context.seed)}


def image_stream(tensors: TriggerTensors, row_id: str) -> torch.Generator:
    """Return the random generator of one image: a function of the seed and the image's id.

    A trigger without ``image_seed`` draws nothing, and gets an arbitrary generator.
    """
    seed = tensors.get("seed")
    return torch.Generator() if seed is None else stream(int(seed), f"trigger/{row_id}")
