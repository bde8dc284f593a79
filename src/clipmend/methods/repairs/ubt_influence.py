"""The most influential words and patches of a pair, a part of UBT's repair.

A word or a patch is influential if its removal lowers the cosine of image and caption.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from clipmend.data.streaming import Images
from clipmend.data.words import bare
from clipmend.errors import ModelError
from clipmend.model.clip import Clip, embed_images, embed_texts


def influential_words(
    model: Clip, images: Images, captions: Sequence[str], *, keep: int
) -> tuple[str, ...]:
    """Return, for each caption, the ``keep`` words whose removal lowers its cosine the most.

    The words keep their order. A caption of at most ``keep`` words is returned unchanged.
    """
    split = [caption.split() for caption in captions]
    # One call embeds the shortened captions of all pairs, which is faster than one call per pair.
    owner = [pair for pair, words in enumerate(split) for _ in words]
    shortened = [
        " ".join(words[:place] + words[place + 1 :])
        for words in split
        for place in range(len(words))
    ]
    texts = embed_texts(model, model.tokenize(shortened))
    cosine = (embed_images(model, images)[owner] * texts).sum(dim=1)
    chosen = []
    for words, without in zip(split, cosine.split([len(words) for words in split]), strict=True):
        kept = sorted(without.argsort(stable=True)[:keep].tolist())
        chosen.append(" ".join(words[place] for place in kept))
    return tuple(chosen)


def shared_word(captions: Sequence[str], word: str) -> tuple[str, ...]:
    """Return the word as each caption spells it, or the caption itself if it lacks the word."""
    return tuple(
        next((spelled for spelled in caption.split() if bare(spelled) == word), caption)
        for caption in captions
    )


def random_words(
    captions: Sequence[str], generator: torch.Generator, *, keep: int
) -> tuple[str, ...]:
    """Return ``keep`` random words of each caption, in their order."""
    chosen = []
    for caption in captions:
        words = caption.split()
        places = torch.randperm(len(words), generator=generator)[:keep].sort().values.tolist()
        chosen.append(" ".join(words[place] for place in places))
    return tuple(chosen)


def contributions(
    model: Clip, captions: Sequence[str], texts: Sequence[str]
) -> Float[Tensor, "captions dim"]:
    """Return the L2-normalized contribution of each text to its caption's embedding.

    It is the caption's embedding minus that of the caption without the words of the text. Where the
    text is the whole caption, or contributes nothing, it is the caption's embedding itself.
    """
    full = embed_texts(model, model.tokenize(captions))
    rest = []
    for caption, text in zip(captions, texts, strict=True):
        words = caption.split()
        for word in text.split():
            words.remove(word)  # one occurrence for each word of the text
        rest.append(" ".join(words))
    difference = full - embed_texts(model, model.tokenize(rest))
    # A word beyond the context length contributes nothing, and the difference has no direction.
    is_all = torch.tensor([not left for left in rest]) | (difference.norm(dim=1) < 1e-6)
    return F.normalize(torch.where(is_all[:, None], full, difference), dim=1)


def influential_patches(
    model: Clip,
    images: UInt8[Tensor, "samples 3 height width"],
    directions: Float[Tensor, "samples dim"],
    *,
    keep: int,
) -> Bool[Tensor, "samples 1 height width"]:
    """Return a mask of the ``keep`` patches whose removal lowers the cosine the most.

    A removed patch gets the mean color of its image.

    Raises:
        ModelError: the image tower is not a vision transformer.
    """
    vision = model.config["model_cfg"]["vision_cfg"]
    if not isinstance(vision.get("layers"), int) or "patch_size" not in vision:
        raise ModelError(
            "ubt cannot unlearn patches with this image tower, which is not a vision transformer; "
            "set `patches: 0`."
        )
    height, width, side = *images.shape[-2:], int(vision["patch_size"])
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    masks = torch.zeros(len(corners), 1, height, width, dtype=torch.bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[:, top : top + side, left : left + side] = True
    color = images.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)
    cosines = []
    for mask in masks:
        masked = torch.where(mask, color, images)
        cosines.append((embed_images(model, masked) * directions).sum(dim=1))
    chosen = torch.stack(cosines, dim=1).argsort(dim=1, stable=True)[:, :keep]
    return masks[chosen].any(dim=1)
