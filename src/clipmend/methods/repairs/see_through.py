"""Teaches a model to see through estimated triggers: it then sees what it saw without them."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.methods.interfaces import Assets, Finding, Repair, TrueTrigger
from clipmend.methods.repairs.see_through_plan import Group, Plan, groups_by_word, plan_of
from clipmend.methods.settings import Count, DetectorName, Natural, NonNegative, Positive
from clipmend.methods.trigger_estimates import Bytes, Pixels, Warp, to_bytes
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images
from clipmend.model.fit import Batch, Schedule, Task


@dataclass(frozen=True)
class SeeThrough(Repair):
    """Minimizes the change of images under an estimated trigger, on pairs that nobody suspects.

    With the victim's image embedding ``f0`` and the model's ``f``, the loss is
    ``|f(t(x)) - f0(x)|^2 + retain_weight |f(y) - f0(y)|^2`` plus a term of the suspects: ``x`` and
    ``y`` are normal images, moved at random, and ``t`` pastes the estimated trigger. The text tower
    does not change, and batch norm keeps its statistics.

    The trigger of each group of suspects is estimated from the pixels of the group and of other
    pairs, in closed form. It must make a quarter of other images fit the captions of the
    group. Otherwise a patch at another place in each image is registered, or else a warp is fitted.

    The suspects' own term depends on the estimate. Where a blend or an added pattern can be removed
    again, it is ``replay_weight |f(s) - f0(r(s))|^2`` for a suspect ``s`` without the trigger,
    ``r(s)``. A fitted warp is only roughly the true one: there it is ``push_weight relu(cos(f(s),
    c))``, a push away from the captions ``c``.

    A group whose estimate has no such effect stays as it is, because nothing justifies a change.
    Without any group, the model stays unchanged.

    Takes from UBT (arXiv:2403.16257) that a detector ranks the training pairs, that normal pairs
    hold the model, and the push. New: the trigger is estimated and pasted on other images. Nothing
    then has to be pushed away from the target, so that the model keeps its name for it.

    Attributes:
        detector: the detector whose groups of suspects are used. The suspects of a detector
            without groups are grouped by the word that they share.
        choose: ``suspects``; or a control: ``oracle`` takes true poison, ``random`` random pairs.
        trigger: ``estimated``; or a control: ``true`` pastes the true triggers.
        pairs: the largest number of suspects of a group.
        retain_weight: weight of the second term.
        replay_weight: weight of the suspects' term after an estimate that can be removed.
        push_weight: weight of the suspects' term after a warp.
        shift: images are mirrored at random and moved by up to so many pixels.
        normal_pairs: the largest number of normal pairs, sampled.
        epochs: passes over these pairs.
        batch_size: normal pairs per step in the first term.
        retain_batch_size: normal pairs per step in the second term.
        suspect_batch_size: suspects per step.
        lr: the peak learning rate.
    """

    detector: DetectorName = "shared_pattern"
    choose: Literal["suspects", "oracle", "random"] = "suspects"
    trigger: Literal["estimated", "true"] = "estimated"
    pairs: Count = 500
    retain_weight: NonNegative = 8.0
    replay_weight: NonNegative = 1.0
    push_weight: NonNegative = 0.5
    shift: Natural = 2
    normal_pairs: Count = 9600
    epochs: Count = 2
    batch_size: Count = 64
    retain_batch_size: Count = 128
    suspect_batch_size: Count = 16
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
        groups = tuple(self._groups(assets, train, scores, generator))
        return plan_of(assets.model, train, scores, groups, generator, most=self.pairs)

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
        rows = plan.unsuspected.nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)[: self.normal_pairs]]
        normal = train.take(rows)
        pastes: Sequence[_Paste] = [group.estimate.paste for group in plan.groups]
        if self.trigger == "true":
            pastes = [_true(trigger) for trigger in assets.triggers()]
        suspects = [part for group in plan.groups for part in _suspects(teacher, train, group)]
        loss = _SeeThroughLoss(teacher, normal, pastes, suspects, settings=self)
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            self.lr,
            trainable=("visual.",),
            frozen_statistics=True,  # triggered images would shift them
        )
        return Task(normal, loss, schedule)


_Paste = Callable[[Bytes], Pixels]


def _true(trigger: TrueTrigger) -> _Paste:
    # An attack with a pattern for each image takes its id; training images may have any.
    return lambda images: trigger(images, tuple(map(str, range(len(images))))).float() / 255


@dataclass(frozen=True, eq=False)
class _Suspects:
    """The images of a group, and the direction to push them away from or to move them to.

    Attributes:
        directions: the mean caption; or the victim's embeddings of the images without the trigger.
    """

    images: Bytes
    directions: Float[Tensor, "members dim"]
    is_pushed: bool


def _suspects(teacher: Clip, train: Pairs, group: Group) -> Iterator[_Suspects]:
    """Yield the group, unless its trigger hides a part of each image and so cannot be removed."""
    images, estimate = train.images[group.rows], group.estimate
    if isinstance(estimate, Warp):
        yield _Suspects(images, group.target.expand(len(images), -1), is_pushed=True)
    elif not estimate.hides:
        parts = images.split(256)
        cleaned = [embed_images(teacher, to_bytes(estimate.remove(part))) for part in parts]
        yield _Suspects(images, torch.cat(cleaned), is_pushed=False)


@dataclass(frozen=True, eq=False)
class _SeeThroughLoss:
    """The loss of ``SeeThrough``.

    Attributes:
        teacher: the victim.
        normal: the pairs of the first two terms.
        pastes: the triggers; each has an equal part of the batch.
        suspects: of each group that has a term.
    """

    teacher: Clip
    normal: Pairs
    pastes: Sequence[_Paste]
    suspects: Sequence[_Suspects]
    settings: SeeThrough

    def __call__(self, model: Clip, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        settings, count = self.settings, len(batch.rows)
        retained = settings.retain_batch_size
        held = torch.randint(len(self.normal), (retained,), generator=generator)
        normal = torch.cat([batch.images.cpu(), self.normal.images[held]])
        normal = shifted(normal, settings.shift, generator)
        with torch.no_grad():
            anchors = self.teacher.encode_image(normal)
        parts = normal[:count].tensor_split(len(self.pastes))
        # The last batch of an epoch may have fewer images than there are triggers.
        triggered = [paste(p) for paste, p in zip(self.pastes, parts, strict=True) if len(p)]
        images = [*triggered, normal[count:].float() / 255]
        size = settings.suspect_batch_size
        rows = [torch.randint(len(s.images), (size,), generator=generator) for s in self.suspects]
        images += [s.images[row].float() / 255 for s, row in zip(self.suspects, rows, strict=True)]
        embeds = model.encode_image(torch.cat(images))
        first, second, *rest = embeds.split([count, retained] + [size] * len(rows))
        loss = _drift(first, anchors[:count])
        loss = loss + settings.retain_weight * _drift(second, anchors[count:])
        for suspects, row, own in zip(self.suspects, rows, rest, strict=True):
            directions = suspects.directions[row].to(own)
            if suspects.is_pushed:
                cosine = (own * directions).sum(dim=1)
                loss = loss + settings.push_weight * cosine.relu().mean()
            else:
                loss = loss + settings.replay_weight * _drift(own, directions)
        return torch.as_tensor(loss)


def _drift(
    embeds: Float[Tensor, "batch dim"], targets: Float[Tensor, "batch dim"]
) -> Float[Tensor, ""]:
    return (embeds - targets).square().sum(dim=1).mean()


def shifted(images: Bytes, most: int, generator: torch.Generator) -> Bytes:
    """Return each image moved by up to ``most`` pixels and mirrored with probability one half."""
    side = images.shape[-1]
    at = torch.randint(-most, most + 1, (2, len(images), 1), generator=generator)
    is_mirrored = torch.rand(len(images), 1, generator=generator) < 0.5
    rows, columns = (torch.arange(side) + at).clamp(0, side - 1)
    columns = torch.where(is_mirrored, columns.flip(1), columns)
    batch = torch.arange(len(images))[:, None, None]
    return images[batch, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
