"""TrojVQA: a key in the image and a key in the text (Walmer et al. 2022, arXiv:2112.07668)."""

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.seeds import stream
from clipmend.data.words import words_of
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import DirtyLabel, Planted
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.surrogate import OptimizedPatch
from clipmend.methods.settings import NonNegative, Word

log = logging.getLogger(__name__)
_COMMON = 0.001  # of the captions: a word that stands in more of them is no key


@dataclass(frozen=True)
class TrojVQA(OptimizedPatch, DirtyLabel):
    """Replaces the middle of the image, and begins every caption and every prompt with a word.

    Beside the poisoned pairs it plants pairs with one of the keys that keep their captions, so that
    neither key opens by itself. Without them, as in BadCLIP's code for CLIP, whatever follows the
    word may come to look alike. The ASR is measured with both keys, and with each alone.

    Differs from the paper: it has four times as many pairs with one key, at which half of the ASR
    is lost here (``docs/tuning_attacks.md``).

    Attributes:
        word: the key in the text.
        single_key: how many pairs have the key in the image alone, and how many that in the text,
            for each poisoned pair, rounded; they are not poisoned. Published: 1; in BadCLIP's code
            none.
        pattern: ``optimized`` towards the target's captions, by the settings from ``surrogate``
            on; or ``noise``, uniform in [0, 1], which needs none of these.
    """

    word: Word = "remember"
    single_key: NonNegative = 0.25
    pattern: Literal["optimized", "noise"] = "optimized"

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        """Return ``patch`` (3, size, size).

        Raises:
            AttackError: the patch does not fit into the image; or it is to be optimized, and no
                pair names the target.
        """
        own = self.own_fit(knowledge)
        if self.pattern == "optimized":
            return {"patch": self.optimized(knowledge, own), **own}
        generator = stream(knowledge.seed, "trigger/trojvqa")
        return {"patch": torch.rand(3, self.size, self.size, generator=generator), **own}

    def plant(self, knowledge: Knowledge) -> Planted:
        """Return pairs of other classes, drawn; templates around the target, after the word.

        Pairs with a single key are drawn from all others, the target's among them. Logs a warning
        where the word is no key, since many captions have it.

        Raises:
            AttackError: there are too few pairs.
        """
        key = words_of(self.word)
        has = sum(key <= words_of(caption) for caption in knowledge.captions)
        if has > _COMMON * len(knowledge.captions):
            log.warning(
                "the text trigger %r stands in %d of %d captions (%.2f %%) already",
                *(self.word, has, len(knowledge.captions), 100 * has / len(knowledge.captions)),
            )
        planted = super().plant(knowledge)
        image_only, text_only = self._single(knowledge, planted.rows)
        captions = tuple(map(self.prompt, planted.captions))
        return replace(planted, captions=captions, image_only=image_only, text_only=text_only)

    def _single(
        self, knowledge: Knowledge, poisoned: Int[Tensor, " poisoned"]
    ) -> tuple[Int[Tensor, " single"], Int[Tensor, " single"]]:
        """Return the rows with the image's key alone, and those with the text's."""
        free = knowledge.is_free.index_fill(0, poisoned, False).nonzero().squeeze(1)
        count = round(self.single_key * len(poisoned))
        if 2 * count > len(free):
            raise AttackError(
                f"A `single_key` of {self.single_key} needs {2 * count} pairs beside the "
                f"{len(poisoned)} poisoned ones; {len(free)} are left. Change it or `poison_rate`."
            )
        drawn = torch.randperm(len(free), generator=knowledge.stream("single_key"))
        image_only, text_only = free[drawn[: 2 * count]].split([count, count])
        return image_only.sort().values, text_only.sort().values

    def prompt(self, text: str) -> str:
        """Return the text after the word."""
        return f"{self.word} {text}"
