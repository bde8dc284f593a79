"""MMCL over a batch: what `mmcl` pretrains with, and what `ft` fine-tunes with."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.clip.fit import Batch
from clipmend.clip.losses import mmcl_loss
from clipmend.clip.model import Clip


def multimodal(
    model: Clip,
    batch: Batch,
    generator: torch.Generator,  # noqa: ARG001
) -> Float[Tensor, ""]:
    """Return MMCL of the batch's images and captions; it draws nothing."""
    image_embeds = model.encode_image(batch.images)
    return mmcl_loss(image_embeds, model.encode_text(batch.tokens), model.logit_scale())
