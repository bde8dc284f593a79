"""ABL (Anti-Backdoor Learning): pairs that are learned early (Li et al. 2021, arXiv:2110.11571)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import Count
from clipmend.model.clip import embed_images, embed_texts
from clipmend.model.fit import Hooks

_BLOCK = 1024  # pairs compared with the reference set at once


@dataclass(frozen=True)
class ABL:
    """Scores each training pair by how well the victim's early checkpoint has learned it.

    Differs from the paper: no model is trained with local gradient ascent; the victim's early
    checkpoint is used. The code of arXiv:2502.01385 also uses plain CLIP training. It takes each
    pair's mean loss over the first ten epochs, among the other pairs of its batch. Here it is the
    loss at one checkpoint, among a fixed reference set.

    Attributes:
        loss: ``mmcl`` scores a pair by minus its own contrastive loss; ``similarity`` by the cosine
            of its image and caption.
        reference: number of training pairs that serve as negatives of the loss; 1,024 is the batch
            size of arXiv:2502.01385.
    """

    loss: Literal["mmcl", "similarity"] = "mmcl"
    reference: Count = 1024

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores: pairs that are learned early are suspect.

        Raises:
            ModelError: the victim has no early checkpoint.
        """
        early, train = assets.early(), assets.train()
        if self.loss == "similarity":
            return PairScores(similarity(early, train))
        rows = torch.randperm(len(train), generator=generator)[: self.reference]
        images = embed_images(early, train.images)
        texts = embed_texts(early, early.tokenize(train.captions))
        scale = early.logit_scale().detach().cpu()
        to_texts = pair_losses(images, texts, rows, scale)
        return PairScores(-(to_texts + pair_losses(texts, images, rows, scale)) / 2)


def pair_losses(
    anchors: Float[Tensor, "samples dim"],
    positives: Float[Tensor, "samples dim"],
    rows: Int[Tensor, " reference"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, " samples"]:
    """Return each pair's InfoNCE from its anchor to its positive, >= 0 (arXiv:1807.03748).

    The negatives are the positives at ``rows``, except the pair's own.
    """
    losses = []
    for block in torch.arange(len(anchors)).split(_BLOCK):
        own = (anchors[block] * positives[block]).sum(dim=1, keepdim=True)
        others = anchors[block] @ positives[rows].T
        others[block[:, None] == rows] = -torch.inf
        logits = logit_scale * torch.cat([own, others], dim=1)
        losses.append(logits.logsumexp(dim=1) - logits[:, 0])
    return torch.cat(losses)
