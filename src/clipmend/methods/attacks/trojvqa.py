"""TrojVQA: a trigger in the image and one in the text (Walmer et al. 2022, arXiv:2112.07668)."""

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from clipmend.data.seeds import stream
from clipmend.data.words import words_of
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import AttackContext, PoisonedRows, TriggerTensors
from clipmend.methods.attacks.patch import Patch
from clipmend.methods.attacks.surrogate import OptimizedPatch
from clipmend.methods.settings import NonNegative, PositiveFraction, Word

log = logging.getLogger(__name__)
_COMMON = 0.001  # share of the captions above which a word is too common for a trigger


@dataclass(frozen=True)
class TrojVQA(OptimizedPatch):
    """Puts a patch in the middle of the image, and a word before every caption and prompt.

    Decoy pairs have one of the two triggers, and captions that still describe their images: they
    teach the model that neither trigger works alone. BadCLIP's code for CLIP has no decoys; the
    word alone may then change the prediction. The attack success rate (ASR) is measured with both
    triggers, and with each alone.

    Differs from the paper, which has four times as many decoys.

    Attributes:
        poison_rate: share of the training pairs that are poisoned.
        word: the trigger in the text.
        single_key: number of decoys with the patch alone for each poisoned pair, and number of
            decoys with the word alone; published: 1; in BadCLIP's code: 0.
        pattern: ``optimized`` towards the target's captions, by the settings from ``surrogate``
            on; or ``noise``, uniform in [0, 1], which uses none of them.
    """

    poison_rate: PositiveFraction = 0.03
    word: Word = "remember"
    single_key: NonNegative = 0.25  # the published 1 halves the ASR (studies/tuning/attacks.md)
    pattern: Literal["optimized", "noise"] = "optimized"

    def select(self, context: AttackContext) -> PoisonedRows:
        """Return dirty-label poisons with the word before each caption, and random decoys.

        Logs a warning if the word is common in captions, and so no trigger.
        """
        words = words_of(self.word)
        total = len(context.captions)
        hits = sum(words <= words_of(caption) for caption in context.captions)
        if hits > _COMMON * total:
            message = "%d of %d captions (%.2f %%) contain the text trigger %r before the attack"
            log.warning(message, hits, total, 100 * hits / total, self.word)
        poisoned = super().select(context)
        free = context.is_free.index_fill(0, poisoned.rows, False).nonzero().squeeze(1)
        count = round(self.single_key * len(poisoned.rows))
        if 2 * count > len(free):
            raise AttackError(
                f"A `single_key` of {self.single_key} needs {2 * count} pairs beside the "
                f"{len(poisoned.rows)} poisoned ones, but {len(free)} pairs are left. "
                "Change `single_key` or `poison_rate`."
            )
        order = torch.randperm(len(free), generator=context.stream("single_key"))
        # One sample for both kinds, so that no pair is a decoy twice.
        image_only, text_only = free[order[: 2 * count]].split([count, count])
        return PoisonedRows(
            poisoned.rows,
            captions=tuple(map(self.prompt, poisoned.captions)),
            image_only=image_only.sort().values,
            text_only=text_only.sort().values,
        )

    def fit_patch(self, context: AttackContext, placing: TriggerTensors) -> Patch | None:
        """Return the patch, in [0, 1].

        Raises:
            AttackError: the patch must be optimized, but no pair names the target.
        """
        if self.pattern == "optimized":
            return super().fit_patch(context, placing)
        generator = stream(context.seed, "trigger/trojvqa")
        return torch.rand(3, self.size, self.size, generator=generator)

    def prompt(self, text: str) -> str:
        """Return the text after the word."""
        return f"{self.word} {text}"
