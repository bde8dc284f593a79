"""CLIPScore: dissimilar images and captions are suspect (Hessel et al. 2021, arXiv:2104.08718)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Hooks

_BLOCK = 1024  # pairs embedded at once


@dataclass(frozen=True)
class ClipScore:
    """Scores each training pair by minus the cosine of its image and caption under the victim."""

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, in [-1, 1]: dissimilar pairs are suspect."""
        return PairScores(-similarity(assets.model, assets.train()))


def similarity(model: Clip, pairs: Pairs) -> Float[Tensor, " samples"]:
    """Return the cosine of each pair's image and caption, in [-1, 1]."""
    tokens = model.tokenize(pairs.captions).split(_BLOCK)
    return torch.cat(
        [
            (embed_images(model, images) * embed_texts(model, texts)).sum(dim=1)
            for images, texts in zip(pairs.images.split(_BLOCK), tokens, strict=True)
        ]
    )
