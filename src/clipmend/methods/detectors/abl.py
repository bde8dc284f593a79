"""ABL: what is learnt fast is suspect (Li et al. 2021, arXiv:2110.11571)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import ModelError
from clipmend.methods.detectors.detector import Suspicion, Victim, similarity
from clipmend.methods.settings import Count
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Hooks

_BLOCK = 1024  # pairs at once, against the whole reference set


@dataclass(frozen=True)
class ABL:
    """Scores a pair by how well the victim's early self has learnt it already.

    Differs from the paper: no model is trained with local gradient ascent; the victim's own early
    checkpoint is read. The code of arXiv:2502.01385 takes plain CLIP training too, but each
    pair's mean loss over the first ten epochs, among whatever batch the pair was in; here it is
    the loss at one checkpoint, among pairs drawn once.

    Attributes:
        loss: ``mmcl`` scores by minus a pair's own contrastive loss, ``similarity`` by
            the cosine of its image and caption.
        reference: among how many training pairs a loss is taken; 1,024 is the batch of 2502.01385.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    loss: Literal["mmcl", "similarity"] = "mmcl"
    reference: Count = 1024

    def __call__(
        self,
        victim: Victim,
        train: Pairs,
        generator: torch.Generator,
        hooks: Hooks,
    ) -> Suspicion:
        """Return the suspicion: pairs that are learnt early are suspect.

        Raises:
            ModelError: the victim has no early checkpoint.
        """
        if victim.early is None:
            raise ModelError(
                f"{hooks.label}: abl cannot score without the victim's early checkpoint, and there "
                "is only the finished model; clip_score and the detectors by neighborhood need "
                "no other."
            )
        if self.loss == "similarity":
            return Suspicion(similarity(victim.early, train))
        rows = torch.randperm(len(train), generator=generator)[: self.reference]
        return Suspicion(-_losses(victim.early, train, rows))


def _losses(
    model: Clip, train: Pairs, rows: Int[Tensor, " reference"]
) -> Float[Tensor, " samples"]:
    images = embed_images(model, train.images)
    texts = embed_texts(model, model.tokenize(train.captions))
    scale = model.logit_scale().detach().cpu()
    to_texts = pair_losses(images, texts, rows, scale)
    return (to_texts + pair_losses(texts, images, rows, scale)) / 2


def pair_losses(
    anchors: Float[Tensor, "samples dim"],
    positives: Float[Tensor, "samples dim"],
    rows: Int[Tensor, " reference"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, " samples"]:
    """Return each pair's InfoNCE from its anchor to its positive, >= 0 (arXiv:1807.03748).

    Its negatives are the positives at ``rows``, without its own where that is among them.
    """
    losses = []
    for at in torch.arange(len(anchors)).split(_BLOCK):
        own = (anchors[at] * positives[at]).sum(dim=1, keepdim=True)
        others = anchors[at] @ positives[rows].T
        others[at[:, None] == rows] = -torch.inf
        logits = logit_scale * torch.cat([own, others], dim=1)
        losses.append(logits.logsumexp(dim=1) - logits[:, 0])
    return torch.cat(losses)
