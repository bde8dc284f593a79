"""Captions that name the target already, and the training pairs that have them."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.words import words_of
from clipmend.errors import AttackError
from clipmend.methods.attacks.knowledge import Knowledge

Match = Literal["word", "substring"]


def namer(target: str, match: Match) -> Callable[[str], bool]:
    """Return what says whether a caption names the target.

    Args:
        match: ``word``, every word of the target stands in the caption as a word; ``substring``,
            the target stands somewhere in it: "bananas" then names a banana.
    """
    if match == "substring":
        part = target.lower()
        return lambda caption: part in caption.lower()
    words = words_of(target)
    return lambda caption: words <= words_of(caption)


def rows_naming_target(knowledge: Knowledge, match: Match) -> Int[Tensor, " naming"]:
    """Return the free rows whose caption names the target, ascending; ``match`` as above."""
    is_naming = list(map(namer(knowledge.target, match), knowledge.captions))
    return (torch.tensor(is_naming, dtype=torch.bool) & knowledge.is_free).nonzero().squeeze(1)


def natural_rows(knowledge: Knowledge) -> Int[Tensor, " naming"]:
    """Return the free rows whose caption names the target as a word, at least one.

    Raises:
        AttackError: there is none.
    """
    rows = rows_naming_target(knowledge, "word")
    if not len(rows):
        raise AttackError(
            f"No training pair names {knowledge.target!r}, whose captions and images the attack "
            "needs; choose another target, or `badnet`."
        )
    return rows
