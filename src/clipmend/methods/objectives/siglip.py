"""SigLIP: a sigmoid for each image and caption of a batch (Zhai et al. 2023, arXiv:2303.15343)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipmend.methods.objectives.pretraining import Pretraining
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch

_HEAD = {"init_logit_scale": log(10), "init_logit_bias": -10.0}  # arXiv:2303.15343, section 3.1


@dataclass(frozen=True)
class SigLIP(Pretraining):
    """Minimizes the sigmoid loss over all training pairs, with a learned temperature and bias."""

    def head(self) -> Mapping[str, float]:
        """Return the paper's initial temperature and bias."""
        return _HEAD

    def loss(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the sigmoid loss of the batch."""
        image_embeds = model.encode_image(batch.images)
        text_embeds = model.encode_text(batch.tokens)
        return sigmoid_loss(image_embeds, text_embeds, model.logit_scale(), model.logit_bias())


def sigmoid_loss(
    image_embeds: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the sigmoid loss of SigLIP (arXiv:2303.15343, eq. 1).

    It is a sum over all image-caption combinations of the batch, divided by the batch size.
    """
    logits = logit_scale * image_embeds @ text_embeds.T + logit_bias  # (image, text)
    # +1 for a pair, -1 for every other combination of the batch.
    is_pair = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(is_pair * logits).sum() / len(logits)
