"""Training pairs whose captions name the target already."""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.attacks.knowledge import Knowledge
from clipmend.corpus.words import words_of

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
