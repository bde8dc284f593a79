"""MMCL over a batch: what `mmcl` pretrains with, and what `ft` fine-tunes with."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import mmcl_loss


def multimodal(
    model: Clip,
    batch: Batch,
    generator: torch.Generator,  # noqa: ARG001
) -> Float[Tensor, ""]:
    """Return MMCL of the batch's images and captions; it draws nothing."""
    image_embeds = model.encode_image(batch.images)
    return mmcl_loss(image_embeds, model.encode_text(batch.tokens), model.logit_scale())
