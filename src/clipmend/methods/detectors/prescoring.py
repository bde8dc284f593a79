"""UBT's first look at the pairs: how well an image fits its caption, under a reference."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import ModelError
from clipmend.methods.detectors.detector import Victim, similarity
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, embed_texts
from clipmend.model.fit import Hooks, Schedule, Task, fit
from clipmend.model.zoom import zoomed_similarity

_Given = TypeVar("_Given")


@dataclass(frozen=True)
class PreScoring:
    """Which model looks, and at how much of the images.

    A caption that tells what the image shows still fits when the image is zoomed and mirrored.
    One that fits for a trigger's sake does not: a trigger is a pattern of pixels in their place.

    Attributes:
        reference: the finished ``victim``, its ``early`` checkpoint, or a model of the same kind
            trained from ``scratch`` on the same pairs or on the ``trusted`` ones.
        epochs: how long such a one is trained.
        views: zoomed views per image; 0: the image as it is.
        scale: bounds of a view's area, as shares of the image's.
    """

    reference: Literal["victim", "early", "scratch", "trusted"]
    epochs: int
    views: int
    scale: tuple[float, float]

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator
    ) -> Float[Tensor, " samples"]:
        """Return each pair's similarity in [-1, 1] under the reference, the mean over its views.

        Raises:
            ModelError: the victim comes without what the reference needs.
        """
        model = self._model(victim, train, generator)
        if not self.views:
            return similarity(model, train)
        texts = embed_texts(model, model.tokenize(train.captions))
        return zoomed_similarity(
            model, train.images, texts, generator, scale=self.scale, views=self.views
        )

    def _model(self, victim: Victim, train: Pairs, generator: torch.Generator) -> Clip:
        if self.reference == "victim":
            return victim.model
        if self.reference == "early":
            return self._present(victim.early, "a checkpoint from early in its training")
        pairs = train
        if self.reference == "trusted":
            pairs = self._present(victim.trusted, "a trusted set")()
        fresh = self._present(victim.fresh, "its own config")
        model = fresh(int(torch.randint(2**31, (), generator=generator)))
        model.prune_vocabulary([*train.captions, *pairs.captions])
        schedule = Schedule(self.epochs, batch_size=128, lr=2e-3)  # as `mmcl` pretrains
        label = f"reference from {self.reference}"
        fit(model, Task(pairs, multimodal, schedule), generator, Hooks(label=label))
        return model

    def _present(self, given: _Given | None, what: str) -> _Given:
        if given is None:
            raise ModelError(
                f"Reference {self.reference!r} needs {what}, which this model comes without; "
                "`reference: victim` needs none."
            )
        return given
