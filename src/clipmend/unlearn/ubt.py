"""UBT's unlearning: take a few suspects' telling words off their images (arXiv:2403.16257)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.clip.fit import Batch, Schedule, Task
from clipmend.clip.model import Clip, embed_images, embed_texts
from clipmend.corpus.splits import Pairs
from clipmend.settings import Count, Fraction, NonNegative, Positive, PositiveFraction
from clipmend.unlearn.tokens import telling_words
from clipmend.unlearn.unlearner import Evidence, Unlearning


@dataclass(frozen=True)
class UBT:
    """Pushes images of a few suspects off the words that tie them to their captions.

    Minimises ``relu(margin + cos(image, words))`` on the chosen pairs, the words' embedding
    held as the victim has it, + ``retain_weight`` times the squared distance from the victim's
    own image embeddings on normal pairs. Only the image tower moves. Contrasting the normal
    pairs instead would teach the backdoor again: a part of the poison is still among them.

    Differs from the paper: its loss, its tokens and its number of pairs are not stated in
    what is public.

    Attributes:
        detector: whose scores choose the pairs.
        choose: ``suspects`` takes the highest scores; ``random`` and ``oracle`` are controls
            that take training pairs at random, and true poison.
        pairs: how many pairs are unlearned.
        words: how many words of each caption are.
        margin: how far beyond a right angle the images are pushed, as a cosine. At 0 what is
            held pulls some of them back.
        normal_share: share of the training pairs, the least suspect, that are held.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    detector: str = "ubt"
    choose: Literal["suspects", "random", "oracle"] = "suspects"
    pairs: Count = 64
    words: Count = 1
    normal_share: PositiveFraction = 0.5
    margin: Fraction = 0.4
    retain_weight: NonNegative = 10.0
    epochs: Count = 8
    batch_size: Count = 16
    normal_batch_size: Count = 96
    lr: Positive = 1e-3

    @property
    def control(self) -> bool:
        """Whether the pairs are chosen as no defender would or could."""
        return self.choose != "suspects"

    def plan(self, evidence: Evidence, generator: torch.Generator) -> Unlearning:
        """Return what to unlearn, and how."""
        rows = self._rows(evidence, generator)
        chosen = evidence.train.take(rows)
        texts = telling_words(evidence.overfitted, chosen.images, chosen.captions, keep=self.words)
        ranked = evidence.score.argsort()
        normal = evidence.train.take(ranked[: round(self.normal_share * len(ranked))])
        teacher = evidence.victim.twin()
        loss = _Dissociate(
            words=embed_texts(teacher, teacher.tokenise(texts)),
            normal=normal,
            anchors=embed_images(teacher, normal.images),
            normal_batch_size=self.normal_batch_size,
            margin=self.margin,
            retain_weight=self.retain_weight,
        )
        schedule = Schedule(
            self.epochs, self.batch_size, self.lr, moves=("visual.",), frozen_statistics=True
        )
        return Unlearning(Task(chosen, loss, schedule), rows, texts)

    def _rows(self, evidence: Evidence, generator: torch.Generator) -> Int[Tensor, " chosen"]:
        if self.choose == "suspects":
            return evidence.score.argsort(descending=True, stable=True)[: self.pairs]
        if self.choose == "oracle" and evidence.train.is_poisoned.any():
            among = evidence.train.is_poisoned.nonzero().squeeze(1)
        else:  # an unpoisoned victim has no true poison to choose
            among = torch.arange(len(evidence.train))
        return among[torch.randperm(len(among), generator=generator)[: self.pairs]]


@dataclass(frozen=True)
class _Dissociate:
    """The loss of ``UBT``; embeddings named here are the victim's and stay as they are."""

    words: Float[Tensor, "chosen dim"]
    normal: Pairs
    anchors: Float[Tensor, "normal dim"]
    normal_batch_size: int
    margin: float
    retain_weight: float

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        drawn = torch.randint(len(self.normal), (self.normal_batch_size,), generator=generator)
        images = model.encode_image(torch.cat([batch.images, self.normal.images[drawn]]))
        suspects, held = images.split([len(batch.rows), self.normal_batch_size])
        cosine = (suspects * self.words[batch.rows].to(images)).sum(dim=1)
        drift = (held - self.anchors[drawn].to(images)).square().sum(dim=1)
        pushed = (self.margin + cosine).relu().mean()
        return torch.as_tensor(pushed + self.retain_weight * drift.mean())
