"""The interface of detectors of inputs, which score images that arrive at a model in use."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs, Vocabulary
from clipmend.methods.settings import Count, ProperFraction
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.zero_shot import class_embeds

Scorer = Callable[[UInt8[Tensor, "samples 3 height width"]], Float[Tensor, " samples"]]


@dataclass(frozen=True)
class Operation:
    """A model in use, and the data of the person who operates it.

    Attributes:
        model: the victim, in evaluation mode. Its vocabulary has all words of the prompts and of
            the trusted captions.
        trusted: trusted pairs, without labels. None of their images sets the threshold.
        vocabulary: the classes and the prompts of the zero-shot classifier.
    """

    model: Clip
    trusted: Pairs
    vocabulary: Vocabulary

    def class_embeds(self) -> Float[Tensor, "classes dim"]:
        """Return the zero-shot classifier; its rows are L2-normalized."""
        return class_embeds(self.model, self.vocabulary)

    def images(
        self, images: UInt8[Tensor, "samples 3 height width"]
    ) -> Float[Tensor, "samples dim"]:
        """Return the L2-normalized embeddings of images."""
        return embed_images(self.model, images)

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the L2-normalized embeddings of texts."""
        return embed_texts(self.model, self.model.tokenize(texts))

    def mean_text(self, texts: Sequence[str]) -> Float[Tensor, " dim"]:
        """Return the L2-normalized mean embedding of texts."""
        return F.normalize(self.texts(texts).mean(dim=0), dim=0)


@dataclass(frozen=True)
class InputDetector(ABC):
    """Scores images at test time. Its line in ``methods/table.py`` has ``scores="inputs"``.

    Attributes:
        false_positive_rate: share of trusted images that score above the threshold, which is set by
            them alone.
        images: validation images that are scored with and without the trigger, and trusted images
            that set the threshold; of each at most as many, and at most half of the trusted ones.
    """

    false_positive_rate: ProperFraction = 0.05
    images: Count = 500

    @abstractmethod
    def scorer(self, operation: Operation, generator: torch.Generator) -> Scorer:
        """Return a function that scores 8-bit images; a higher score is more suspect.

        The score of an image depends on that image alone, not on others that arrive with it.

        Args:
            generator: for random choices, which are the same for all images.
        """
