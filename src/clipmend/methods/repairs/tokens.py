"""Which words of a caption carry the backdoor's tie, and what they put into its embedding."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.data.streaming import Images
from clipmend.data.words import bare
from clipmend.model.clip import Clip, embed_images, embed_texts


def telling_words(
    model: Clip,
    images: Images,
    captions: Sequence[str],
    *,
    keep: int,
) -> tuple[str, ...]:
    """Return, of each caption, the ``keep`` words whose absence lowers its cosine the most.

    Words stay in their order. A caption of no more than ``keep`` words stays whole.
    """
    split = [caption.split() for caption in captions]
    # All shortened captions of all pairs go through the text tower at once.
    owner = [pair for pair, words in enumerate(split) for _ in words]
    shortened = [
        " ".join(words[:place] + words[place + 1 :])
        for words in split
        for place in range(len(words))
    ]
    texts = embed_texts(model, model.tokenize(shortened))
    cosine = (embed_images(model, images)[owner] * texts).sum(dim=1)
    chosen, start = [], 0
    for words in split:
        without = cosine[start : start + len(words)]
        start += len(words)
        kept = sorted(without.argsort(stable=True)[:keep].tolist())
        chosen.append(" ".join(words[place] for place in kept))
    return tuple(chosen)


def shared_word(captions: Sequence[str], word: str) -> tuple[str, ...]:
    """Return the word as each caption writes it; the caption itself where it has it not."""
    return tuple(
        next((written for written in caption.split() if bare(written) == word), caption)
        for caption in captions
    )


def random_words(
    captions: Sequence[str], generator: torch.Generator, *, keep: int
) -> tuple[str, ...]:
    """Return ``keep`` words of each caption at random, in their order."""
    chosen = []
    for caption in captions:
        words = caption.split()
        places = torch.randperm(len(words), generator=generator)[:keep].sort().values.tolist()
        chosen.append(" ".join(words[place] for place in places))
    return tuple(chosen)


def contributions(
    model: Clip, captions: Sequence[str], texts: Sequence[str]
) -> Float[Tensor, "captions dim"]:
    """Return what ``texts`` put into the embeddings of their captions, L2-normalized.

    The embedding of the caption less that of the caption without these words. Of a text that is the
    whole caption, or puts nothing in, it is the caption's embedding itself.
    """
    whole = embed_texts(model, model.tokenize(captions))
    rest = [_without(caption, text) for caption, text in zip(captions, texts, strict=True)]
    difference = whole - embed_texts(model, model.tokenize(rest))
    is_all = torch.tensor([not left for left in rest]) | (difference.norm(dim=1) < 1e-6)
    return F.normalize(torch.where(is_all[:, None], whole, difference), dim=1)


def _without(caption: str, text: str) -> str:
    """Return the caption less the words of the text, each taken away once."""
    left = caption.split()
    for word in text.split():
        left.remove(word)
    return " ".join(left)
