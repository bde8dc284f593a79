"""UBT's unlearning: take a few suspects' telling words off their images (arXiv:2403.16257)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import ModelError, TrainingError
from clipmend.methods.repairs.patches import telling_patches
from clipmend.methods.repairs.subset import Subset, few_shot, finding
from clipmend.methods.repairs.tokens import contributions, random_words, shared_word, telling_words
from clipmend.methods.repairs.unlearner import Evidence, Unlearning
from clipmend.methods.settings import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveFraction,
)
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Schedule, Task

_TRAINABLE = {
    "image_tower": ("visual.",),
    "image_head": ("visual.attnpool.", "visual.proj", "visual.ln_post.", "visual.head."),
}


@dataclass(frozen=True)
class UBT:
    """Pushes images of a few suspects off what one word puts into their captions.

    Minimizes ``relu(margin + cos(image, contribution))`` on the chosen pairs, the contribution of
    the word to the caption's embedding held as the victim has it, + ``retain_weight`` times the
    squared distance from the victim's own image embeddings on normal pairs. Contrasting the
    normal pairs instead would teach the backdoor again: a part of the poison may be among them.

    The rate is held until the first term is at most ``tolerance`` on the chosen pairs, then
    falls to zero over ``cooldown`` epochs, in which the second mends what the push has bent.

    If the most suspect pairs have no word in common, nothing is found and nothing is changed.

    Differs from the paper: its loss, its tokens, its number of pairs and when it stops are not
    stated in what is public.

    Attributes:
        detector: whose scores choose the pairs.
        choose: ``suspects`` takes the highest scores; ``random`` and ``oracle`` are controls
            that take training pairs at random, and true poison (none where there is none).
        pairs: how many pairs are unlearned, at most.
        least_excess: how much more often the most suspect pairs must have a word than pairs have.
        tokens: the words unlearned of each caption: those whose absence lowers its cosine the most
            (``leave_one_out``), the one that the suspects share (``over_represented``), some at
            ``random``, or the whole ``caption``.
        words: how many words of each caption are.
        direction: what images are pushed off: the words' ``contribution`` to the caption's
            embedding, or the embedding of the ``words`` alone.
        patches: of a ViT's image, only so many patches are pushed, pasted on normal images: those
            whose masking lowers the cosine the most; 0: the image as it is.
        trainable: the parameters that move; ``image_head`` is what pools and projects the image.
        margin: how far beyond a right angle the images are pushed, as a cosine. At 0 what is
            held pulls some of them back.
        normal_share: share of the training pairs, the least suspect, that are held.
        epochs: at most, over the chosen pairs.
    """

    needs: ClassVar[tuple[str, ...]] = ("train",)

    detector: str = "ubt"
    choose: Literal["suspects", "random", "oracle"] = "suspects"
    pairs: Count = 64
    least_excess: Fraction = 0.65
    tokens: Literal["leave_one_out", "over_represented", "random", "caption"] = "leave_one_out"
    words: Count = 1
    direction: Literal["contribution", "words"] = "contribution"
    patches: Natural = 0
    trainable: Literal["image_tower", "image_head"] = "image_tower"
    normal_share: PositiveFraction = 0.5
    margin: Fraction = 0.4
    tolerance: NonNegative = 0.05
    retain_weight: NonNegative = 10.0
    epochs: Count = 24
    cooldown: Natural = 6
    batch_size: Count = 16
    normal_batch_size: Count = 96
    lr: Positive = 1e-3

    @property
    def control(self) -> bool:
        """Whether the pairs are chosen as no defender would or could."""
        return self.choose != "suspects"

    def plan(self, evidence: Evidence, generator: torch.Generator) -> Unlearning:
        """Return what to unlearn, and how.

        Raises:
            TrainingError: no normal pair would be held.
            ModelError: the model has no such part as is to move.
        """
        subset = self._subset(evidence, generator)
        chosen = evidence.train.take(subset.rows)
        if not len(chosen):
            return Unlearning(subset, (), torch.zeros(0, 1), task=None)
        teacher = evidence.victim.frozen_copy()
        texts = self._texts(evidence, chosen, subset, generator)
        if self.direction == "contribution":
            directions = contributions(teacher, chosen.captions, texts)
        else:
            directions = embed_texts(teacher, teacher.tokenize(texts))
        task = self._task(evidence, chosen, directions, teacher)
        return Unlearning(subset, texts, directions, task)

    def _subset(self, evidence: Evidence, generator: torch.Generator) -> Subset:
        if self.choose == "suspects":
            return few_shot(
                evidence.score,
                evidence.suspects,
                evidence.train.captions,
                most=self.pairs,
                least_excess=self.least_excess,
            )
        among = torch.arange(len(evidence.train))
        if self.choose == "oracle":
            among = evidence.train.is_poisoned.nonzero().squeeze(1)
        rows = among[torch.randperm(len(among), generator=generator)[: self.pairs]]
        return finding(rows, evidence.train.captions)

    def _texts(
        self, evidence: Evidence, chosen: Pairs, subset: Subset, generator: torch.Generator
    ) -> tuple[str, ...]:
        if self.tokens == "caption":
            return chosen.captions
        if self.tokens == "over_represented":
            return shared_word(chosen.captions, subset.word)
        if self.tokens == "random":
            return random_words(chosen.captions, generator, keep=self.words)
        return telling_words(evidence.overfitted, chosen.images, chosen.captions, keep=self.words)

    def _task(self, evidence: Evidence, chosen: Pairs, directions: Tensor, teacher: Clip) -> Task:
        normal = self._normal(evidence)
        loss = _Dissociate(
            directions=directions,
            normal=normal,
            anchors=embed_images(teacher, normal.images),
            normal_batch_size=self.normal_batch_size,
            margin=self.margin,
            retain_weight=self.retain_weight,
            masks=self._masks(evidence.overfitted, chosen, directions),
        )

        def converged(model: Clip) -> bool:
            cosine = (embed_images(model, chosen.images) * directions).sum(dim=1)
            return float((self.margin + cosine).relu().mean()) <= self.tolerance

        return Task(chosen, loss, self._schedule(teacher), converged)

    def _normal(self, evidence: Evidence) -> Pairs:
        ranked = evidence.score.argsort()
        count = round(self.normal_share * len(ranked))
        if not count:
            raise TrainingError(
                f"ubt: normal_share {self.normal_share} of {len(ranked)} pairs is none of them, "
                "and nothing would be held; raise it."
            )
        return evidence.train.take(ranked[:count])

    def _schedule(self, model: Clip) -> Schedule:
        trainable = _TRAINABLE[self.trainable]
        if not any(name.startswith(trainable) for name, _ in model.net.named_parameters()):
            raise ModelError(
                f"`trainable: {self.trainable}` names no parameter of this model; allowed are "
                f"{', '.join(_TRAINABLE)}, where the image tower has such a part."
            )
        return Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            warmup=1 / self.epochs,
            trainable=trainable,
            frozen_statistics=True,
            cooldown=min(self.cooldown, self.epochs - 1),
        )

    def _masks(self, model: Clip, chosen: Pairs, directions: Tensor) -> Tensor | None:
        if not self.patches:
            return None
        return telling_patches(model, chosen.images[:], directions, keep=self.patches)


@dataclass(frozen=True)
class _Dissociate:
    """The loss of ``UBT``; embeddings named here are the victim's and stay as they are.

    Attributes:
        masks: which pixels of a chosen image are pushed; None: all of them.
    """

    directions: Float[Tensor, "chosen dim"]
    normal: Pairs
    anchors: Float[Tensor, "normal dim"]
    normal_batch_size: int
    margin: float
    retain_weight: float
    masks: Bool[Tensor, "chosen 1 height width"] | None = None

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        drawn = torch.randint(len(self.normal), (self.normal_batch_size,), generator=generator)
        pushed_off = self._pushed_off(batch, generator)
        images = model.encode_image(torch.cat([pushed_off, self.normal.images[drawn]]))
        suspects, held = images.split([len(batch.rows), self.normal_batch_size])
        cosine = (suspects * self.directions[batch.rows].to(images)).sum(dim=1)
        drift = (held - self.anchors[drawn].to(images)).square().sum(dim=1)
        pushed = (self.margin + cosine).relu().mean()
        return torch.as_tensor(pushed + self.retain_weight * drift.mean())

    def _pushed_off(
        self, batch: Batch, generator: torch.Generator
    ) -> UInt8[Tensor, "batch 3 height width"]:
        if self.masks is None:
            return batch.images
        under = torch.randint(len(self.normal), (len(batch.rows),), generator=generator)
        return torch.where(self.masks[batch.rows], batch.images, self.normal.images[under])
