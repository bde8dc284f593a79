"""Contrastive losses over L2-normalized embeddings."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def one_way_loss(
    anchors: Float[Tensor, "batch dim"],
    positives: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return InfoNCE from anchors to positives (arXiv:1807.03748).

    Row i of each belongs together.
    """
    logits = logit_scale * anchors @ positives.T
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def mmcl_loss(
    image_embeds: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the multimodal contrastive loss of CLIP (arXiv:2103.00020, fig. 3).

    InfoNCE from images to texts and from texts to images, halved.
    """
    to_text = one_way_loss(image_embeds, text_embeds, logit_scale)
    to_image = one_way_loss(text_embeds, image_embeds, logit_scale)
    return (to_text + to_image) / 2


def ssl_loss(
    image_embeds: Float[Tensor, "batch dim"],
    image_views: Float[Tensor, "batch dim"],
    text_embeds: Float[Tensor, "batch dim"],
    text_views: Float[Tensor, "batch dim"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return CleanCLIP's self-supervised loss (arXiv:2303.03323, eq. 3), at MMCL's temperature.

    One direction only, from the originals to their views, halved over the two modalities,
    as in the published code.
    """
    images = one_way_loss(image_embeds, image_views, logit_scale)
    texts = one_way_loss(text_embeds, text_views, logit_scale)
    return (images + texts) / 2
