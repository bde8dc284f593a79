"""What every detector is: a score for each training pair, or a verdict on the whole model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Hooks

_BLOCK = 1024  # pairs embedded at once


@dataclass(frozen=True)
class Suspicion:
    """What a detector believes of the pairs.

    Attributes:
        score: one finite value a pair, higher = more suspect.
        columns: further columns of ``scores.parquet``, one value a pair.
        models: further models, by file name, that the detector made on the way.
    """

    score: Float[Tensor, " samples"]
    columns: dict[str, Shaped[Tensor, " samples"]] = field(default_factory=dict)
    models: dict[str, Clip] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a detector believes of the model as a whole.

    Attributes:
        is_backdoored: whether the model counts as backdoored.
        found: whether the detector reached what it searched for; "not backdoored" without it is
            the absence of evidence.
        statistic: which of ``numbers`` decides.
        threshold: what it is compared with.
        numbers: what was measured, by name; finite.
        definitions: what each number means.
        n_images: how many images the numbers are taken over.
        evidence: what shows it, by name.
        picture: the same, to look at.
    """

    is_backdoored: bool
    found: bool
    statistic: str
    threshold: float
    numbers: dict[str, float]
    definitions: dict[str, str]
    n_images: int
    evidence: dict[str, Shaped[Tensor, "..."]] = field(default_factory=dict)
    picture: UInt8[Tensor, "3 height width"] | None = None


@dataclass(frozen=True)
class Victim:
    """The model under suspicion, and what else its owner may have.

    Attributes:
        model: as it is.
        early: as it was early in training; None where only the finished model is left.
        trusted: reads the defender's small clean set; None where there is none.
        fresh: makes an untrained model of the same kind from a seed.
    """

    model: Clip
    early: Clip | None = None
    trusted: Callable[[], Pairs] | None = None
    fresh: Callable[[int], Clip] | None = None


@runtime_checkable
class Detector(Protocol):
    """A frozen dataclass; its fields are its settings."""

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Suspicion:
        """Return the suspicion; ``train.is_poisoned`` and ``train.label`` are not for it to see."""


@runtime_checkable
class ModelDetector(Protocol):
    """A detector of the whole model: what its ``__call__`` returns tells it from the others."""

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Verdict:
        """Return the verdict; ``train.is_poisoned`` and ``train.label`` are not for it to see."""


def similarity(model: Clip, pairs: Pairs) -> Float[Tensor, " samples"]:
    """Return the cosine of each pair's image with its caption, in [-1, 1]."""
    tokens = model.tokenize(pairs.captions).split(_BLOCK)
    return torch.cat(
        [
            (embed_images(model, images) * embed_texts(model, texts)).sum(dim=1)
            for images, texts in zip(pairs.images.split(_BLOCK), tokens, strict=True)
        ]
    )


SCORES = "scores.parquet"
VERDICT = "model_score.json"
OVERFITTED = "overfitted.safetensors"
