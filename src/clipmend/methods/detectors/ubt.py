"""UBT (Unlearning Backdoor Threats), the detector: overfit on suspects (arXiv:2403.16257)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.artifacts import OVERFITTED_MODEL
from clipmend.data.splits import Pairs
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.settings import (
    Count,
    Natural,
    NonNegative,
    Positive,
    PositiveFraction,
    Several,
)
from clipmend.model.batch_losses import multimodal
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Hooks, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss
from clipmend.model.zoom import zoomed_similarity

_BLOCK = 1024  # suspects compared with all others at once; fewer where there are more suspects
_CELLS = 2**25  # the largest number of cosines at once


@dataclass(frozen=True)
class UBTDetector:
    """Overfits the victim on suspects, and scores these by the agreement with their neighbors.

    1. Pre-scoring: the suspects are the ``suspect_share`` of the training pairs with the lowest
       similarity of image and caption. By default the victim itself scores zoomed and mirrored
       views, in which a trigger does not survive.
    2. Overfitting: minimize ``-cos`` of the suspects + ``normal_weight`` MMCL (the multimodal
       contrastive loss) of normal pairs.
    3. Ranking: a suspect's agreement is the mean of image cosine times caption cosine over the
       ``neighbors`` suspects with the nearest images, under the overfitted model. Triggered
       images gather at one point, and their captions have the target in common. Hard or mislabeled
       clean pairs are near images with other captions. All other pairs rank below the suspects, by
       their dissimilarity.

    Differs from the paper: the public material does not state its pre-scoring model, loss weights
    and schedule. It ranks by the similarity after overfitting, which ``rank`` offers.

    Attributes:
        reference: the model of the pre-scoring: the finished ``victim``, its ``early`` checkpoint,
            or a new model, trained on the training pairs (``scratch``) or the ``trusted`` pairs.
        reference_epochs: epochs of this training.
        views: zoomed and mirrored views of each image in the pre-scoring; 0: the image itself.
        scale: bounds of a view's area, as shares of the image's.
        suspect_share: share of the training pairs that are suspects.
        epochs: passes over the suspects in the overfitting; 0: the victim's embeddings rank.
        batch_size: suspects, and as many normal pairs, per step of the overfitting.
        lr: the peak learning rate of the overfitting.
        normal_weight: weight of the normal pairs' MMCL.
        neighbors: number of nearest suspects in the agreement.
        rank: the order of the suspects after overfitting. ``density`` is the agreement without
            captions, ``similarity`` that of image and caption, ``gain`` the similarity minus that
            of the pre-scoring.
    """

    reference: Literal["victim", "early", "scratch", "trusted"] = "victim"
    reference_epochs: Count = 3
    views: Natural = 4
    scale: tuple[PositiveFraction, PositiveFraction] = (0.5, 1.0)
    suspect_share: PositiveFraction = 0.2
    epochs: Natural = 1
    batch_size: Several = 128
    lr: Positive = 3e-4
    normal_weight: NonNegative = 1.0
    neighbors: Count = 30
    rank: Literal["agreement", "density", "similarity", "gain"] = "agreement"

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, both similarities, the suspects and the overfitted model.

        Raises:
            ModelError: the assets lack what ``reference`` needs.
        """
        train = assets.train()
        before = self.prescores(assets, generator)
        suspect = torch.zeros(len(train), dtype=torch.bool)
        count = min(len(train), max(2, round(self.suspect_share * len(train))))
        suspect[before.argsort(stable=True)[:count]] = True
        rows, overfitted = suspect.nonzero().squeeze(1), assets.model
        if self.epochs and not suspect.all():
            tokens = overfitted.tokenize(train.captions)[~suspect]
            normal = train.take((~suspect).nonzero().squeeze(1))
            loss = _OverfittingLoss(normal, tokens, self.normal_weight)
            schedule = Schedule(self.epochs, self.batch_size, self.lr, warmup=0.1)
            fit(overfitted, Task(train.take(rows), loss, schedule), generator, hooks)
        after, score = similarity(overfitted, train), -before
        # Cosines are in [-1, 1] and a gain in [-2, 2], so 4 puts every suspect above other pairs.
        score[rows] = 4 + self._order(overfitted, train.take(rows), after[rows], before[rows])
        columns = {"similarity_before": before, "similarity_after": after, "suspect": suspect}
        return PairScores(score, columns, {OVERFITTED_MODEL: overfitted} if self.epochs else {})

    def prescores(self, assets: Assets, generator: torch.Generator) -> Float[Tensor, " samples"]:
        """Return each pair's similarity under the reference, a mean over views, in [-1, 1].

        A caption that describes its image still fits when the image is zoomed and mirrored. One
        that fits only the trigger does not, because a trigger is a pattern of pixels at its place.
        """
        train = assets.train()
        model = self._reference(assets, train, generator)
        if not self.views:
            return similarity(model, train)
        texts = embed_texts(model, model.tokenize(train.captions))
        return zoomed_similarity(
            model, train.images, texts, generator, scale=self.scale, views=self.views
        )

    def _reference(self, assets: Assets, train: Pairs, generator: torch.Generator) -> Clip:
        if self.reference == "victim":
            return assets.model
        if self.reference == "early":
            return assets.early()
        pairs = assets.trusted() if self.reference == "trusted" else train
        model = assets.fresh(int(torch.randint(2**31, (), generator=generator)))
        model.prune_vocabulary([*train.captions, *pairs.captions])
        schedule = Schedule(self.reference_epochs, batch_size=128, lr=2e-3)  # as `mmcl` pretrains
        label = f"reference from {self.reference}"
        fit(model, Task(pairs, multimodal, schedule), generator, Hooks(label=label))
        return model

    def _order(
        self,
        overfitted: Clip,
        suspects: Pairs,
        after: Float[Tensor, " suspects"],
        before: Float[Tensor, " suspects"],
    ) -> Float[Tensor, " suspects"]:
        if self.rank == "similarity":
            return after
        if self.rank == "gain":
            return after - before
        images = embed_images(overfitted, suspects.images).to(overfitted.device)
        if self.rank == "density":
            texts = torch.ones(len(images), 1)
        else:
            texts = embed_texts(overfitted, overfitted.tokenize(suspects.captions))
        return agreement(images, texts.to(overfitted.device), self.neighbors).cpu()


@dataclass(frozen=True)
class _OverfittingLoss:
    """``-cos`` of a batch of suspects + ``weight`` MMCL of as many random normal pairs."""

    normal: Pairs
    tokens: Int[Tensor, "normal context"]
    weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        rows = torch.randint(len(self.normal), (len(batch.rows),), generator=generator)
        images = model.encode_image(torch.cat([batch.images, self.normal.images[rows]]))
        texts = model.encode_text(torch.cat([batch.tokens, self.tokens[rows]]))
        (suspect_images, images), (suspect_texts, texts) = images.chunk(2), texts.chunk(2)
        shortcut = -(suspect_images * suspect_texts).sum(dim=1).mean()
        return shortcut + self.weight * mmcl_loss(images, texts, model.logit_scale())


def agreement(
    image_embeds: Float[Tensor, "samples dim"],
    text_embeds: Float[Tensor, "samples text_dim"],
    neighbors: int,
) -> Float[Tensor, " samples"]:
    """Return each pair's mean of image cosine times text cosine, in [-1, 1].

    The mean is over the ``neighbors`` other pairs with the nearest images.
    """
    count = min(neighbors, len(image_embeds) - 1)
    agreements = []
    block = max(1, min(_BLOCK, _CELLS // len(image_embeds)))
    for rows in torch.arange(len(image_embeds), device=image_embeds.device).split(block):
        cosines = image_embeds[rows] @ image_embeds.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        nearest = cosines.topk(count, dim=1)
        texts = (text_embeds[rows][:, None] * text_embeds[nearest.indices]).sum(dim=2)
        agreements.append((nearest.values * texts).mean(dim=1))
    return torch.cat(agreements)
