"""Training pairs whose captions name the target already."""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.attacks.knowledge import Knowledge
from clipmend.corpus.words import words_of
from clipmend.errors import AttackError

Match = Literal["word", "substring"]


def rows_naming_target(knowledge: Knowledge, match: Match) -> Int[Tensor, " naming"]:
    """Return the free rows whose caption names the target, ascending.

    Args:
        match: ``word``, every word of the target stands in the caption as a word; ``substring``,
            the target stands somewhere in it: "bananas" then names a banana.
    """
    target = knowledge.target.lower()
    wanted = words_of(target)
    names = [
        wanted <= words_of(caption) if match == "word" else target in caption.lower()
        for caption in knowledge.captions
    ]
    return (torch.tensor(names, dtype=torch.bool) & knowledge.is_free).nonzero().squeeze(1)


def natural_rows(knowledge: Knowledge) -> Int[Tensor, " naming"]:
    """Return the free rows whose caption names the target as a word, at least one.

    Raises:
        AttackError: there is none.
    """
    naming = rows_naming_target(knowledge, "word")
    if not len(naming):
        raise AttackError(
            f"No training pair names {knowledge.target!r}, whose captions and images the attack "
            "needs; choose another target, or `badnet`."
        )
    return naming
