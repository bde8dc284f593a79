"""The zero-shot classifier: an ensemble of prompts per class, and its cosines with images."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.data.splits import Vocabulary
from clipmend.data.streaming import Images
from clipmend.model.clip import Clip, embed_images, embed_texts


def prompts_of(vocabulary: Vocabulary) -> list[str]:
    """Return every prompt, class by class."""
    return [prompt.format(name) for name in vocabulary.classes for prompt in vocabulary.prompts]


def class_embeds(model: Clip, vocabulary: Vocabulary) -> Float[Tensor, "classes dim"]:
    """Return the embedding of each class: the normalized mean over its prompts, as CLIP."""
    embeds = embed_texts(model, model.tokenize(prompts_of(vocabulary)))
    # Prompts are listed class by class, so a reshape groups them.
    by_class = embeds.view(len(vocabulary.classes), len(vocabulary.prompts), -1)
    return F.normalize(by_class.mean(dim=1), dim=-1)


def class_cosines(
    model: Clip,
    images: Images,
    classes: Float[Tensor, "classes dim"],
) -> Float[Tensor, "samples classes"]:
    """Return the cosine of each image with each class; the largest is the prediction."""
    return torch.as_tensor(embed_images(model, images) @ classes.T)
