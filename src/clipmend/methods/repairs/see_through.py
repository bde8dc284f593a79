"""Teaches a model to see through estimated triggers: it then sees what it saw without them."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Assets, Finding, Repair, TrueTrigger
from clipmend.methods.repairs.see_through_plan import Group, Plan, groups_by_word, plan_of
from clipmend.methods.settings import Count, DetectorName, NonNegative, Positive
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Batch, Schedule, Task


@dataclass(frozen=True)
class SeeThrough(Repair):
    """Minimizes the change of images under an estimated trigger, on pairs that nobody suspects.

    With the victim's image embedding ``f0`` and the model's ``f``, the loss is
    ``|f(t(x)) - f0(x)|^2 + retain_weight |f(x) - f0(x)|^2 + replay_weight |f(s) - f0(r(s))|^2``:
    ``x`` is a normal image, ``t`` pastes the estimated trigger, ``s`` is a suspect's image and
    ``r`` removes the trigger from it. The text tower does not change, and batch norm keeps its
    statistics.

    The trigger of each group of suspects is estimated from the pixels of the group and of pairs
    with other captions, in closed form (``trigger_estimates``). If pasting it makes fewer than
    half of other images fit the captions of the group, a warp is fitted instead. A group whose
    estimate has no such effect either stays as it is: nothing then justifies a change. Without
    any group, the model stays unchanged.

    Takes from UBT (arXiv:2403.16257) that a detector ranks the training pairs, and that normal
    pairs hold the model. New: nothing is pushed away from the target, so that the model keeps its
    name for it; and the repair aims at the embedding that the image has without the trigger.

    Attributes:
        detector: the detector whose groups of suspects are used. The suspects of a detector
            without groups are grouped by the word that they share.
        choose: ``suspects``; or a control: ``oracle`` takes true poison, ``random`` random pairs.
        trigger: ``estimated``; or a control: ``true`` pastes the true triggers.
        pairs: the largest number of suspects of a group.
        retain_weight: weight of the second term.
        replay_weight: weight of the third term; 0: suspects serve the estimate alone.
        normal_pairs: number of normal pairs, sampled.
        epochs: passes over these pairs.
        batch_size: normal pairs per step in the first term, and as many in the second.
        replay_batch_size: suspects per step in the third term.
        lr: the peak learning rate.
    """

    detector: DetectorName = "shared_pattern"
    choose: Literal["suspects", "oracle", "random"] = "suspects"
    trigger: Literal["estimated", "true"] = "estimated"
    pairs: Count = 500
    retain_weight: NonNegative = 8.0
    replay_weight: NonNegative = 1.0
    normal_pairs: Count = 6400
    epochs: Count = 2
    batch_size: Count = 64
    replay_batch_size: Count = 32
    lr: Positive = 1e-3

    @property
    def control(self) -> bool:
        """Whether the repair uses information that no defender has."""
        return self.choose != "suspects" or self.trigger != "estimated"

    def tasks(
        self, assets: Assets, generator: torch.Generator
    ) -> Generator[Task, None, Finding | None]:
        """Yield the task, if there is a group to repair, and return the finding."""
        plan = self.plan(assets, generator)
        before = plan.associations(assets.model)
        if plan.groups:
            yield self._task(plan, assets, generator)
        return plan.finding(before, plan.associations(assets.model))

    def plan(self, assets: Assets, generator: torch.Generator) -> Plan:
        """Return the groups with their estimated triggers, before anything is trained."""
        train, scores = assets.train(), assets.scores()
        groups = [rows[: self.pairs] for rows in self._groups(assets, train, scores, generator)]
        return plan_of(assets.model, train, scores, groups, generator)

    def _groups(
        self, assets: Assets, train: Pairs, scores: Scores, generator: torch.Generator
    ) -> Iterator[Int[Tensor, " members"]]:
        """Yield the rows of each group, the most suspect first."""
        if self.choose == "random":
            yield torch.randperm(len(train), generator=generator)[: self.pairs]
        elif self.choose == "oracle":
            rows = assets.is_poisoned().nonzero().squeeze(1)
            yield from groups_by_word(rows, train.captions)
        elif scores.groups:
            for rows in scores.groups:
                yield rows[scores.score[rows].argsort(descending=True, stable=True)]
        else:
            # A ranking has no end: take as many as the largest group may have.
            ranked = scores.suspects[scores.score[scores.suspects].argsort(descending=True)]
            yield from groups_by_word(ranked[: self.pairs], train.captions)

    def _task(self, plan: Plan, assets: Assets, generator: torch.Generator) -> Task:
        teacher, train = assets.model.frozen_copy(), plan.train
        suspicious = torch.zeros(len(train), dtype=torch.bool)
        for group in plan.groups:
            suspicious[group.rows] = True
        rows = (~suspicious).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)[: self.normal_pairs]]
        normal = train.take(rows)
        suspects = torch.cat([train.images[group.rows] for group in plan.groups])
        cleaned = torch.cat([_cleaned(teacher, train, group) for group in plan.groups])
        pastes: Sequence[_Paste] = [group.estimate.paste for group in plan.groups]
        if self.trigger == "true":
            pastes = [_true(trigger) for trigger in assets.triggers()]
        loss = _SeeThroughLoss(
            normal, embed_images(teacher, normal.images), pastes, suspects, cleaned, settings=self
        )
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            trainable=("visual.",),
            frozen_statistics=True,  # triggered images would shift them
        )
        return Task(normal, loss, schedule)


_Paste = Callable[[UInt8[Tensor, "batch 3 height width"]], Float[Tensor, "batch 3 height width"]]


def _true(trigger: TrueTrigger) -> _Paste:
    # An attack with a pattern for each image takes its id; training images may have any.
    return lambda images: trigger(images, tuple(map(str, range(len(images))))).float() / 255


def _cleaned(teacher: Clip, train: Pairs, group: Group) -> Float[Tensor, "members dim"]:
    """Return the victim's embeddings of the suspects' images without the estimated trigger."""
    parts = train.images[group.rows].split(256)
    return torch.cat([embed_images(teacher, group.estimate.remove(part)) for part in parts])


@dataclass(frozen=True)
class _SeeThroughLoss:
    """The loss of ``SeeThrough``.

    Attributes:
        normal: the pairs of the first two terms.
        anchors: the victim's embeddings of their images.
        pastes: the triggers; each has an equal part of the batch.
        suspects: the images of the third term.
        cleaned: the victim's embeddings of these images without the trigger.
    """

    normal: Pairs
    anchors: Float[Tensor, "normal dim"]
    pastes: Sequence[_Paste]
    suspects: UInt8[Tensor, "suspects 3 height width"]
    cleaned: Float[Tensor, "suspects dim"]
    settings: SeeThrough = field(repr=False)

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        settings, count = self.settings, len(batch.rows)
        held = torch.randint(len(self.normal), (count,), generator=generator)
        parts = batch.images.cpu().tensor_split(len(self.pastes))
        triggered = [paste(part) for paste, part in zip(self.pastes, parts, strict=True)]
        images = [*triggered, self.normal.images[held].float() / 255]
        targets = [self.anchors[batch.rows], self.anchors[held]]
        weights = [torch.ones(count), torch.full((count,), settings.retain_weight)]
        if settings.replay_weight:
            size = (settings.replay_batch_size,)
            rows = torch.randint(len(self.suspects), size, generator=generator)
            images.append(self.suspects[rows].float() / 255)
            targets.append(self.cleaned[rows])
            # Weighted so that each term is a mean over its own images.
            weights.append(torch.full(size, settings.replay_weight * count / size[0]))
        embeds = model.encode_image(torch.cat(images))
        drift = (embeds - torch.cat(targets).to(embeds)).square().sum(dim=1)
        return (torch.cat(weights).to(drift) * drift).sum() / count
