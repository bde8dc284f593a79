"""UBT (Unlearning Backdoor Threats), the repair: unlearn words of suspects (arXiv:2403.16257)."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clipmend.data.artifacts import OVERFITTED_MODEL
from clipmend.data.splits import Pairs
from clipmend.errors import ModelError, TrainingError
from clipmend.methods.interfaces import Assets, Finding, Repair
from clipmend.methods.repairs import ubt_influence as influence
from clipmend.methods.repairs.ubt_plan import Plan, Subset, few_shot, subset_of
from clipmend.methods.settings import (
    Count,
    DetectorName,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveFraction,
    Several,
)
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images, embed_texts
from clipmend.model.fit import Batch, Schedule, Task

_TRAINABLE = {
    "image_tower": ("visual.",),
    "image_head": ("visual.attnpool.", "visual.proj", "visual.ln_post.", "visual.head."),
}


@dataclass(frozen=True)
class UBT(Repair):
    """Pushes the images of a few suspects away from the direction of one word of their captions.

    Minimizes ``relu(margin + cos(image, direction))`` on the chosen training pairs +
    ``retain_weight`` times the squared distance from the victim's own image embeddings on normal
    training pairs. The direction is the contribution of the word to the victim's embedding of the
    caption. A contrastive loss on the normal pairs would teach the backdoor again, because some
    poison may be among them.

    The learning rate stays at its peak until the first term is at most ``tolerance`` on the chosen
    pairs. It then falls to zero over ``cooldown`` epochs, in which the second term repairs the
    damage of the push.

    If the most suspect pairs have no word in common, the model stays unchanged.

    Differs from the paper: the public material does not state its loss, its tokens, its number of
    pairs or its stopping rule.

    Attributes:
        detector: the detector whose scores choose the pairs.
        choose: ``suspects`` takes the highest scores. ``random`` and ``oracle`` are controls: they
            take random training pairs, or true poison (none where no pair is poisoned).
        pairs: the largest number of pairs to unlearn.
        least_excess: by how much the most suspect captions must exceed all captions in the share
            that has a common word.
        tokens: the words to unlearn of each caption. ``leave_one_out``: those whose removal lowers
            its cosine the most; ``over_represented``: the word that the suspects share; ``random``:
            random words; ``caption``: all of them.
        words: number of words to unlearn of each caption.
        direction: the direction to push images away from: the words' ``contribution`` to the
            caption's embedding, or the embedding of the ``words`` alone.
        patches: number of patches of a ViT's image that are pushed, pasted onto normal images:
            those whose removal lowers the cosine the most. 0: the full image.
        trainable: the trained parameters; ``image_head`` is the part that pools and projects.
        normal_share: share of the training pairs that are normal, the least suspect.
        margin: how far the images' cosine is pushed below 0. With 0, the second term pulls some
            images back.
        tolerance: the value of the first term at which the rate begins to fall.
        retain_weight: weight of the second term.
        epochs: the largest number of passes over the chosen pairs.
        cooldown: epochs in which the rate falls.
        batch_size: chosen pairs per step.
        normal_batch_size: normal pairs sampled for each step.
        lr: the peak learning rate.
    """

    detector: DetectorName = "ubt"
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
    batch_size: Several = 16
    normal_batch_size: Count = 96
    lr: Positive = 1e-3

    @property
    def control(self) -> bool:
        """Whether the pairs are chosen in a way that is not a defense."""
        return self.choose != "suspects"

    def texts(self) -> None:
        """Keep the full vocabulary: a long caption without a word may have tokens of its own."""
        # Without the word, tokens behind the context length move into the model's view.

    def tasks(
        self, assets: Assets, generator: torch.Generator
    ) -> Generator[Task, None, Finding | None]:
        """Yield the task, if there is one, and return the finding.

        Raises:
            TrainingError: no pair is normal.
            ModelError: the model has no ``trainable`` part of that kind.
        """
        plan = self.plan(assets, generator)
        before = plan.associations(assets.model)
        if plan.task is not None:
            yield plan.task
        return plan.finding(before, plan.associations(assets.model))

    def plan(self, assets: Assets, generator: torch.Generator) -> Plan:
        """Return the pairs to unlearn and the task that unlearns them; raises as ``tasks``."""
        train, scores = assets.train(), assets.scores()
        subset = self._subset(assets, train, scores, generator)
        if len(subset.rows) == 1:  # one pair makes no batch, and has no word in common with others
            subset = replace(subset, rows=subset.rows[:0], is_single=True)
        chosen = train.take(subset.rows)
        if not len(chosen):
            return Plan(train, scores, subset, (), torch.zeros(0, 1), task=None)
        teacher = assets.model.frozen_copy()
        # A detector without an overfitted model leaves the victim to find the influential words.
        overfitted = assets.detector_model(OVERFITTED_MODEL) or teacher
        texts = self._texts(overfitted, chosen, subset, generator)
        if self.direction == "contribution":
            directions = influence.contributions(teacher, chosen.captions, texts)
        else:
            directions = embed_texts(teacher, teacher.tokenize(texts))
        masks = None
        if self.patches:
            images = chosen.images[:]  # decoded: the chosen pairs are few
            masks = influence.influential_patches(overfitted, images, directions, keep=self.patches)
        normal = self._normal(train, scores.score)
        anchors = embed_images(teacher, normal.images)
        loss = _DissociationLoss(directions, normal, anchors, masks, settings=self)

        def converged(model: Clip) -> bool:
            cosine = (embed_images(model, chosen.images) * directions).sum(dim=1)
            return float((self.margin + cosine).relu().mean()) <= self.tolerance

        task = Task(chosen, loss, self._schedule(teacher), converged)
        return Plan(train, scores, subset, texts, directions, task)

    def _subset(
        self, assets: Assets, train: Pairs, scores: Scores, generator: torch.Generator
    ) -> Subset:
        if self.choose == "suspects":
            return few_shot(
                scores.score,
                scores.suspects,
                train.captions,
                most=self.pairs,
                least_excess=self.least_excess,
            )
        among = torch.arange(len(train))
        if self.choose == "oracle":
            among = assets.is_poisoned().nonzero().squeeze(1)
        rows = among[torch.randperm(len(among), generator=generator)[: self.pairs]]
        return subset_of(rows, train.captions)

    def _texts(
        self, overfitted: Clip, chosen: Pairs, subset: Subset, generator: torch.Generator
    ) -> tuple[str, ...]:
        if self.tokens == "caption":
            return chosen.captions
        if self.tokens == "over_represented":
            return influence.shared_word(chosen.captions, subset.word)
        if self.tokens == "random":
            return influence.random_words(chosen.captions, generator, keep=self.words)
        return influence.influential_words(
            overfitted, chosen.images, chosen.captions, keep=self.words
        )

    def _normal(self, train: Pairs, score: Float[Tensor, " samples"]) -> Pairs:
        ranked = score.argsort()
        count = round(self.normal_share * len(ranked))
        if not count:
            raise TrainingError(
                f"ubt: normal_share {self.normal_share} of {len(ranked)} pairs is less than one "
                "pair, and nothing would hold the model in place; raise it."
            )
        return train.take(ranked[:count])

    def _schedule(self, model: Clip) -> Schedule:
        trainable = _TRAINABLE[self.trainable]
        if not any(name.startswith(trainable) for name, _ in model.net.named_parameters()):
            raise ModelError(
                f"ubt: `trainable: {self.trainable}` matches no parameter of this model's image "
                f"tower; allowed are {', '.join(_TRAINABLE)}, as far as the tower has them."
            )
        return Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            warmup=1 / self.epochs,  # the first epoch
            trainable=trainable,
            frozen_statistics=True,  # a batch with so many suspects would shift them
            cooldown=min(self.cooldown, self.epochs - 1),
        )


@dataclass(frozen=True)
class _DissociationLoss:
    """The loss of ``UBT``.

    Attributes:
        directions: the direction to push each chosen image away from.
        normal: the pairs of the second term.
        anchors: the victim's embeddings of their images.
        masks: the pixels of each chosen image that are pushed; None: all of them.
    """

    directions: Float[Tensor, "chosen dim"]
    normal: Pairs
    anchors: Float[Tensor, "normal dim"]
    masks: Bool[Tensor, "chosen 1 height width"] | None
    settings: UBT

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        settings, count = self.settings, len(self.normal)
        rows = torch.randint(count, (settings.normal_batch_size,), generator=generator)
        suspect_images = batch.images
        if self.masks is not None:
            under = torch.randint(count, (len(batch.rows),), generator=generator)
            mask = self.masks[batch.rows]
            suspect_images = torch.where(mask, batch.images, self.normal.images[under])
        images = model.encode_image(torch.cat([suspect_images, self.normal.images[rows]]))
        suspects, normal = images.split([len(batch.rows), len(rows)])
        cosine = (suspects * self.directions[batch.rows].to(images)).sum(dim=1)
        drift = (normal - self.anchors[rows].to(images)).square().sum(dim=1)
        pushed = (settings.margin + cosine).relu().mean()
        return torch.as_tensor(pushed + settings.retain_weight * drift.mean())
