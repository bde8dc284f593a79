"""Which words of a caption carry its tie to the image: leave one out, and see what is lost."""

from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from clipmend.clip.model import Clip, embed_images, embed_texts


def telling_words(
    model: Clip,
    images: UInt8[Tensor, "samples 3 height width"],
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
    texts = embed_texts(model, model.tokenise(shortened))
    cosine = (embed_images(model, images)[owner] * texts).sum(dim=1)
    chosen, start = [], 0
    for words in split:
        without = cosine[start : start + len(words)]
        start += len(words)
        kept = sorted(without.argsort(stable=True)[:keep].tolist())
        chosen.append(" ".join(words[place] for place in kept))
    return tuple(chosen)
