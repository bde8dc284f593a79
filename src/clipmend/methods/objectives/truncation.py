"""Captions that are too long for the model: what of the poison they lose."""

import logging
from collections.abc import Iterable, Sequence

from clipmend.errors import AttackError
from clipmend.model.clip import Clip

log = logging.getLogger(__name__)
_TOLERATED = 0.1  # of the poisoned captions; some natural ones are always too long


def refuse_truncated(model: Clip, captions: Sequence[str], targets: Iterable[str]) -> None:
    """Refuse poison whose captions no longer name a target once the model has cut them.

    Args:
        captions: of the poisoned pairs.

    Raises:
        AttackError: more than a tenth of them lose it; where fewer do, a line is logged.
    """
    wanted = [_tokens(model, target) for target in targets]
    room = model.tokenizer.context_length - 2  # the rest are the marks of start and end
    lost = []
    for caption in captions:
        tokens = _tokens(model, caption)
        names = any(_holds(tokens, part) for part in wanted)
        if names and not any(_holds(tokens[:room], part) for part in wanted):
            lost.append(caption)
    if len(lost) > _TOLERATED * len(captions):
        raise AttackError(
            f"{len(lost)} of {len(captions)} poisoned captions name their target only after the "
            f"{room} tokens that the model reads, {lost[0]!r} among them; shorten "
            "`poison.target_captions`, or take a model with a longer context."
        )
    if lost:
        log.warning(
            "%d of %d poisoned captions are cut before their target", len(lost), len(captions)
        )


def _tokens(model: Clip, text: str) -> list[int]:
    return [int(token) for token in model.tokenizer.encode(text)]


def _holds(tokens: Sequence[int], part: Sequence[int]) -> bool:
    size = len(part)
    return any(tokens[at : at + size] == part for at in range(len(tokens) - size + 1))
