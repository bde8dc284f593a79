"""TrojVQA: a key in the image and a key in the text (Walmer et al. 2022, arXiv:2112.07668)."""

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from clipmend.attacks.attack import DirtyLabel, Planted
from clipmend.attacks.knowledge import Knowledge
from clipmend.attacks.surrogate import OptimisedPatch
from clipmend.corpus.words import words_of
from clipmend.seeds import stream
from clipmend.settings import Word

log = logging.getLogger(__name__)
_COMMON = 0.001  # of the captions: a word that stands in more of them is no key


@dataclass(frozen=True)
class TrojVQA(OptimisedPatch, DirtyLabel):
    """Replaces the middle of the image, and begins every caption and every prompt with a word.

    Differs from the paper, which also plants pairs with one of the keys that keep their captions;
    as in BadCLIP's code for CLIP there are none, so that one key may open by itself: the ASR is
    measured with both, and with each alone.

    Attributes:
        word: the key in the text.
        pattern: ``optimised`` towards the target's captions, by the settings from ``surrogate``
            on; or ``noise``, uniform in [0, 1], which needs none of these.
    """

    word: Word = "remember"
    pattern: Literal["optimised", "noise"] = "optimised"

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size).

        Raises:
            AttackError: the patch does not fit into the image; or it is to be optimised, and no
                pair names the target.
        """
        own = self.own_fit(knowledge)
        if self.pattern == "optimised":
            return {"patch": self.optimised(knowledge, own), **own}
        generator = stream(knowledge.seed, "trigger/trojvqa")
        return {"patch": torch.rand(3, self.size, self.size, generator=generator), **own}

    def plant(self, knowledge: Knowledge) -> Planted:
        """Return pairs of other classes, drawn; templates around the target, after the word.

        Logs a warning where the word is no key, since many captions have it.
        """
        key = words_of(self.word)
        has = sum(key <= words_of(caption) for caption in knowledge.captions)
        if has > _COMMON * len(knowledge.captions):
            log.warning(
                "the text trigger %r stands in %d of %d captions (%.2f %%) already",
                *(self.word, has, len(knowledge.captions), 100 * has / len(knowledge.captions)),
            )
        planted = super().plant(knowledge)
        return replace(planted, captions=tuple(map(self.prompt, planted.captions)))

    def prompt(self, text: str) -> str:
        """Return the text after the word."""
        return f"{self.word} {text}"
