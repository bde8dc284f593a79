"""The losses of CLIP and CleanCLIP over a batch of pairs: MMCL, and MMCL + SSL."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.model.autoaugment import Policy
from clipmend.model.clip import Clip
from clipmend.model.fit import Batch
from clipmend.model.losses import mmcl_loss, ssl_loss
from clipmend.model.views import autoaugment, eda


@dataclass(frozen=True)
class SelfSupervised:
    """Minimizes ``mmcl_weight`` MMCL + ``ssl_weight`` SSL (arXiv:2303.03323, eq. 4).

    Image views are sampled at every step, caption views once before the loop, as in the code
    of CleanCLIP.

    Attributes:
        text_views: one token row for each pair that is fitted.
        mmcl_weight: weight of the multimodal contrastive loss (MMCL).
        ssl_weight: weight of the self-supervised loss (SSL).
        policy: AutoAugment's policy for the image views.
    """

    text_views: Int[Tensor, "samples context"]
    mmcl_weight: float = 1.0
    ssl_weight: float = 1.0
    policy: Policy = "imagenet"

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the loss of the batch and its views."""
        plain = batch.images.to(model.device)  # AutoAugment is faster on a GPU
        views = autoaugment(plain, generator, policy=self.policy)
        images = model.encode_image(torch.cat([plain, views]))
        texts = model.encode_text(torch.cat([batch.tokens, self.text_views[batch.rows]]))
        (image_embeds, image_views), (text_embeds, text_views) = images.chunk(2), texts.chunk(2)
        scale = model.logit_scale()
        mmcl = mmcl_loss(image_embeds, text_embeds, scale)
        ssl = ssl_loss(image_embeds, image_views, text_embeds, text_views, scale)
        return self.mmcl_weight * mmcl + self.ssl_weight * ssl


def caption_views(
    model: Clip, captions: Sequence[str], generator: torch.Generator
) -> Int[Tensor, "captions context"]:
    """Return one EDA view of each caption, as token rows."""
    return model.tokenize(eda(captions, generator))


def multimodal(
    model: Clip,
    batch: Batch,
    generator: torch.Generator,  # noqa: ARG001
) -> Float[Tensor, ""]:
    """Return MMCL of the batch's images and captions; it uses no randomness."""
    image_embeds = model.encode_image(batch.images)
    return mmcl_loss(image_embeds, model.encode_text(batch.tokens), model.logit_scale())
