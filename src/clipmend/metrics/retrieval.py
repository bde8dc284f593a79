"""Retrieval: how often the caption of an image, or the image of a caption, is among the closest."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.metrics.rates import Measured, rate

CLOSEST = (1, 5)


def retrieval(
    cosines: Float[Tensor, "images captions"],
    caption: Int[Tensor, " images"],
    *,
    confidence: float = 0.95,
) -> dict[str, Measured]:
    """Return the recall among the closest 1 and 5, from image to text and from text to image.

    Args:
        cosines: of each image with each *distinct* caption. Equal captions are one, since a model
            cannot distinguish them; a caption may thus have several images, and any of them counts.
        caption: the column of each image's own caption.
    """
    own = torch.arange(cosines.shape[1])[:, None]
    measured = {}
    for count in CLOSEST:
        texts = cosines.topk(min(count, cosines.shape[1]), dim=1).indices
        images = cosines.T.topk(min(count, cosines.shape[0]), dim=1).indices
        found = {
            "image_to_text": ((texts == caption[:, None]).any(dim=1), "test images whose caption"),
            "text_to_image": ((caption[images] == own).any(dim=1), "distinct captions whose image"),
        }
        for name, (hits, what) in found.items():
            meaning = f"share of {what} is among the closest {count} of all of these test pairs"
            number = rate(int(hits.sum()), len(hits), confidence=confidence)
            measured[f"{name}_recall_{count}"] = Measured(number, meaning)
    return measured
