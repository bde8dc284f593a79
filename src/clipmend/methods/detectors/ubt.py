"""UBT's detection: strengthen the shortcut on the suspects, then score again (arXiv:2403.16257)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.detectors.detector import OVERFITTED, Suspicion, Victim, similarity
from clipmend.methods.detectors.prescoring import PreScoring
from clipmend.methods.settings import Count, Natural, NonNegative, Positive, PositiveFraction
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Hooks, Schedule, Task, fit
from clipmend.model.losses import mmcl_loss

_BLOCK = 1024  # suspects compared with all others at once, and fewer where there are more
_CELLS = 2**25  # of these by all others


@dataclass(frozen=True)
class UBTDetector:
    """Overfits the victim on the pairs that fit least, and ranks those by how they gather then.

    1. Suspects are the ``suspect_share`` of the pairs that fit least under the reference: by
       default the victim itself, looking at zoomed and mirrored views, which a trigger does not
       survive.
    2. Overfit: minimize ``-cos`` of the suspects + ``normal_weight`` MMCL of normal pairs.
    3. Suspects are ranked by their agreement under the overfitted model: over the nearest
       ``neighbors`` suspects by image, the mean of image cosine times caption cosine.
       Triggered images fall onto one point, and their captions say the same; hard or
       mislabeled clean pairs lie close to images whose captions say something else. All
       other pairs come after the suspects, those that fit less first.

    Differs from the paper: its pre-scoring model, loss weights and schedule are not stated in
    what is public; it ranks by the similarity after overfitting, which ``rank`` can choose.

    Attributes:
        reference: the model of the first look: the finished ``victim``, its ``early`` checkpoint,
            or one trained briefly from ``scratch`` on the same pairs or on the ``trusted`` ones.
        reference_epochs: how long such a one is trained.
        views: zoomed and mirrored views per image at the first look; 0: the image as it is.
        scale: bounds of a view's area, as shares of the image's.
        epochs: of overfitting; 0: none, the victim's own embeddings rank.
        rank: what orders the suspects: ``agreement``, ``density`` (the same without captions),
            ``similarity`` (of image and caption) or ``gain`` (what similarity has over the
            first look), all after overfitting.
    """

    reference: Literal["victim", "early", "scratch", "trusted"] = "victim"
    reference_epochs: Count = 3
    views: Natural = 4
    scale: tuple[PositiveFraction, PositiveFraction] = (0.5, 1.0)
    suspect_share: PositiveFraction = 0.2
    epochs: Natural = 1
    batch_size: Count = 128
    lr: Positive = 3e-4
    normal_weight: NonNegative = 1.0
    neighbors: Count = 30
    rank: Literal["agreement", "density", "similarity", "gain"] = "agreement"

    @property
    def needs(self) -> tuple[str, ...]:
        """What it reads beside the victim."""
        return ("train", "trusted") if self.reference == "trusted" else ("train",)

    def __call__(
        self, victim: Victim, train: Pairs, generator: torch.Generator, hooks: Hooks
    ) -> Suspicion:
        """Return the suspicion, with both similarities and the overfitted model."""
        look = PreScoring(self.reference, self.reference_epochs, self.views, self.scale)
        before = look(victim, train, generator)
        suspect = torch.zeros(len(train), dtype=torch.bool)
        count = min(len(train), max(2, round(self.suspect_share * len(train))))
        suspect[before.argsort(stable=True)[:count]] = True
        overfitted = victim.model
        if self.epochs and not suspect.all():
            fit(overfitted, self._task(overfitted, train, suspect), generator, hooks)
        after = similarity(overfitted, train)
        score = -before
        rows = suspect.nonzero().squeeze(1)
        # Cosines lie in [-1, 1] and a gain in [-2, 2]: any suspect stands above any other pair.
        score[rows] = 4 + self._order(overfitted, train.take(rows), after[rows], before[rows])
        columns = {"similarity_before": before, "similarity_after": after, "suspect": suspect}
        return Suspicion(score, columns, {OVERFITTED: overfitted} if self.epochs else {})

    def _task(self, model: Clip, train: Pairs, suspect: Bool[Tensor, " samples"]) -> Task:
        loss = _Overfit(
            normal=train.take((~suspect).nonzero().squeeze(1)),
            tokens=model.tokenize(train.captions)[~suspect],
            weight=self.normal_weight,
        )
        schedule = Schedule(self.epochs, self.batch_size, self.lr, warmup=0.1)
        return Task(train.take(suspect.nonzero().squeeze(1)), loss, schedule)

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
class _Overfit:
    """``-cos`` of a batch of suspects, + MMCL of as many normal pairs drawn for it."""

    normal: Pairs
    tokens: Int[Tensor, "normal context"]
    weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        drawn = torch.randint(len(self.normal), (len(batch.rows),), generator=generator)
        images = model.encode_image(torch.cat([batch.images, self.normal.images[drawn]]))
        texts = model.encode_text(torch.cat([batch.tokens, self.tokens[drawn]]))
        (suspect_images, images), (suspect_texts, texts) = images.chunk(2), texts.chunk(2)
        shortcut = -(suspect_images * suspect_texts).sum(dim=1).mean()
        return shortcut + self.weight * mmcl_loss(images, texts, model.logit_scale())


def agreement(
    image_embeds: Float[Tensor, "samples dim"],
    text_embeds: Float[Tensor, "samples text_dim"],
    neighbors: int,
) -> Float[Tensor, " samples"]:
    """Return each pair's mean of image cosine times text cosine, in [-1, 1].

    The mean is over the ``neighbors`` other pairs whose images are nearest.
    """
    count = min(neighbors, len(image_embeds) - 1)
    agreed = []
    block = max(1, min(_BLOCK, _CELLS // len(image_embeds)))
    for rows in torch.arange(len(image_embeds), device=image_embeds.device).split(block):
        cosines = image_embeds[rows] @ image_embeds.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        nearest = cosines.topk(count, dim=1)
        texts = (text_embeds[rows][:, None] * text_embeds[nearest.indices]).sum(dim=2)
        agreed.append((nearest.values * texts).mean(dim=1))
    return torch.cat(agreed)
