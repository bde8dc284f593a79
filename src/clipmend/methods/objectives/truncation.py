"""A check of the stage `pretrain`: poisoned captions must name their target after truncation."""

import logging
from collections.abc import Iterable, Sequence

from clipmend.errors import AttackError
from clipmend.model.clip import Clip

log = logging.getLogger(__name__)
_TOLERATED = 0.1  # share of the poisoned captions: some natural captions are always too long


def refuse_truncated(model: Clip, captions: Sequence[str], targets: Iterable[str]) -> None:
    """Refuse poison whose captions lose the name of their target at the model's context length.

    Args:
        captions: the captions of the poisoned pairs.

    Raises:
        AttackError: more than a tenth of the captions lose it. Where fewer do, it is logged.
    """
    room = model.tokenizer.context_length - 2  # without the start and end tokens

    def tokens(text: str, most: int | None = None) -> str:
        return "".join(f" {int(token)} " for token in model.tokenizer.encode(text)[:most])

    names = [tokens(target) for target in targets]
    lost = [
        caption
        for caption in captions
        if any(name in tokens(caption) for name in names)
        and not any(name in tokens(caption, room) for name in names)
    ]
    if len(lost) > _TOLERATED * len(captions):
        raise AttackError(
            f"{len(lost)} of {len(captions)} poisoned captions name their target only after the "
            f"{room} tokens that the model reads, {lost[0]!r} among them; shorten "
            "`poison.target_captions`, or use a model with a longer context."
        )
    if lost:
        log.warning(
            "%d of %d poisoned captions are truncated before their target", len(lost), len(captions)
        )
