"""The interface of each kind of method, and the bundle of a defender's assets.

A method is a frozen dataclass whose fields are its settings. Its class satisfies the interface of
its stage: ``Objective`` for ``pretrain``, ``Detector`` or ``ModelDetector`` for ``detect``,
``Repair`` for ``unlearn`` and ``baselines``. A subclass of an interface inherits its defaults.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs, Vocabulary
from clipmend.errors import ModelError
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip
from clipmend.model.fit import Hooks, Task


def _no(asset: str) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise ModelError(
            f"This method needs {asset}, which is not available here. The finished model alone is "
            "enough for clip_score, for the detectors by neighborhood, and for ubt with "
            "`reference: victim`."
        )

    return refuse


TrueTrigger = Callable[
    [UInt8[Tensor, "batch 3 height width"], Sequence[str]], UInt8[Tensor, "batch 3 height width"]
]


@dataclass(frozen=True)
class Assets:
    """The model and the data that a defender has.

    Only ``model`` is in memory. Each other asset is a function that reads it, so that a method
    loads what it uses. Calling an asset that the defender does not have raises a ``ModelError``.

    Attributes:
        model: the victim. A repair changes it in place, and so does a detector that trains.
        train: reads the training pairs, poison among them, without true labels and poison marks.
        trusted: reads the small set of trusted pairs, which are clean, without true labels.
        labeled: reads the trusted pairs with their true labels.
        vocabulary: reads the classes that the labels refer to, and their prompts.
        early: loads the victim's checkpoint from early in its training.
        fresh: builds an untrained model of the victim's architecture from a seed.
        scores: reads the scores that a repair's detector gave to the training pairs.
        detector_model: loads a model that this detector saved, by file name. None: it saved no
            model of that name.
        is_poisoned: reads the poison marks of the training pairs. Only a control may call it.
        triggers: reads the true triggers, which map images and their ids to triggered images. Only
            a control may call it.
    """

    model: Clip
    train: Callable[[], Pairs] = field(default=_no("the training pairs"))
    trusted: Callable[[], Pairs] = field(default=_no("trusted pairs"))
    labeled: Callable[[], Pairs] = field(default=_no("the classes of trusted pairs"))
    vocabulary: Callable[[], Vocabulary] = field(default=_no("the classes of the corpus"))
    early: Callable[[], Clip] = field(default=_no("an early checkpoint of the victim"))
    fresh: Callable[[int], Clip] = field(default=_no("an untrained model"))
    scores: Callable[[], Scores] = field(default=_no("a detector's scores"))
    detector_model: Callable[[str], Clip | None] = field(default=_no("a detector's models"))
    is_poisoned: Callable[[], Bool[Tensor, " samples"]] = field(default=_no("the poison marks"))
    triggers: Callable[[], Sequence[TrueTrigger]] = field(default=_no("the true triggers"))


@runtime_checkable
class Objective(Protocol):
    """A loss that pretraining minimizes.

    Attributes:
        needs: the access that a defender must have to use it. A defense at training time needs
            ``("pretraining",)``: the defender must be the one who trains.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def early_epoch(self) -> int:
        """The epoch after which the early checkpoint is saved."""

    @abstractmethod
    def task(self, model: Clip, train: Pairs, generator: torch.Generator) -> Task:
        """Return the task of minimizing the loss over the training pairs.

        Args:
            generator: for the random numbers that are needed once, before the loop.
        """

    def head(self) -> Mapping[str, float]:
        """Return how cosines become logits, where this differs from CLIP (see ``build``)."""
        return {}

    def texts(self) -> tuple[str, ...]:
        """Return the texts, beside the captions, that the objective may pass to the model."""
        return ()


@dataclass(frozen=True)
class PairScores:
    """The output of a detector of pairs.

    Attributes:
        score: one finite value for each training pair; higher is more suspect.
        columns: further columns of ``scores.parquet``, with one value for each pair.
        models: further models to save, by file name.
    """

    score: Float[Tensor, " samples"]
    columns: dict[str, Shaped[Tensor, " samples"]] = field(default_factory=dict)
    models: dict[str, Clip] = field(default_factory=dict)


@runtime_checkable
class Detector(Protocol):
    """Scores each training pair by how suspect it is."""

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return a score for each training pair."""


@dataclass(frozen=True)
class ModelScore:
    """The output of a detector of models.

    Attributes:
        is_backdoored: whether the model counts as backdoored.
        found: whether the search reached its goal. Where it did not, "not backdoored" only means
            that no evidence was found.
        statistic: the name of the number in ``numbers`` that decides.
        threshold: the value that this number is compared with.
        numbers: the measured values, by name; all finite.
        definitions: the meaning of each number.
        n_images: the number of images that the numbers are computed on.
        evidence: tensors that show the evidence, by name.
        picture: an 8-bit image of the evidence.
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


@runtime_checkable
class ModelDetector(Protocol):
    """Scores the model as a whole. Its line in ``methods/table.py`` has ``scores="model"``."""

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> ModelScore:
        """Return the score of the model."""


@dataclass(frozen=True)
class Finding:
    """The explanation that a repair may give of its own work.

    Attributes:
        summary: the content of ``finding.json``.
        chosen: the content of ``chosen.parquet``, one row for each chosen pair; None before the
            repair, when its effect on them is unknown.
        pictures: 8-bit images of the estimated triggers, by the name of their PNG file.
    """

    summary: dict[str, Any]
    chosen: pa.Table | None
    pictures: Mapping[str, UInt8[Tensor, "3 height width"]] = field(default_factory=dict)


@runtime_checkable
class Repair(Protocol):
    """Removes a backdoor from a trained model.

    A setting of the type ``DetectorName`` names the detector whose scores the repair reads.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """What a defender must have: ``trusted`` or ``train`` pairs, ``labels`` of trusted ones."""
        return ("train",)

    @property
    def control(self) -> bool:
        """Whether the repair uses information that no defender has."""
        return False

    def texts(self) -> tuple[str, ...] | None:
        """Return the texts, beside captions and prompts, that the repair may pass to the model.

        The model's vocabulary is pruned to all of these texts. None keeps the full vocabulary.
        """
        return ()

    @abstractmethod
    def tasks(self, assets: Assets, generator: torch.Generator) -> Iterator[Task]:
        """Yield the training tasks in order.

        The loop finishes a task before it asks for the next, which may thus be made from the model
        that the earlier tasks left. A repair with a ``Finding`` is a generator that returns it.

        Args:
            generator: for the random numbers that are needed outside the loop.
        """
