"""The plan of ``see_through``: groups of suspects, their estimated triggers, and the finding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.words import words_of
from clipmend.methods.interfaces import Finding
from clipmend.methods.registration import Placed, placed
from clipmend.methods.repairs.ubt_plan import Subset, chosen_table, mean_of, subset_of
from clipmend.methods.trigger_estimates import (
    FITTED_EFFECT,
    LEAST_EFFECT,
    Estimate,
    effect_of,
    flips,
    linear,
    to_bytes,
    warp,
)
from clipmend.metrics.scores import Scores
from clipmend.model.clip import Clip, embed_images, embed_texts

LEAST_PAIRS = 16  # fewer images say little about a trigger
_OTHERS = 1000  # pairs with other captions that an estimate compares with
_TESTED = 500  # images that the effect of an estimate is measured on
_SHRUNK = 4.0  # see ``linear``
_SHOWN = 8  # images on which an estimate is shown
_LEVEL = 0.05  # the largest p-value of an effect
_DEFINITIONS = {
    "word": "The word that is most over-represented in the captions of the largest group.",
    "word_share": "Share of the captions of this group that have the word.",
    "word_base": "Share of all captions that have the word.",
    "association": "Mean cosine of the chosen images with the mean caption of their group; "
    "-1 to 1.",
    "effect": "Share of other images that fit the captions of a group better than their own "
    "caption once the estimated trigger is pasted.",
    "p_value": "Of a binomial test of the effect against a quarter; against one half for a patch "
    "at another place in each image, which is searched with the model.",
}


@dataclass(frozen=True, eq=False)
class Group:
    """Suspects that share a trigger.

    Attributes:
        rows: their rows, the most suspect first.
        subset: the word that their captions share.
        target: the mean embedding of their captions.
        estimate: the estimated trigger.
        effect: share of other images that the estimate makes fit these captions.
        p_value: of the effect.
        tested: number of these other images.
        change: mean square by which the estimate changes a pixel of these images.
    """

    rows: Int[Tensor, " members"]
    subset: Subset
    target: Float[Tensor, " dim"]
    estimate: Estimate
    effect: float
    p_value: float
    tested: int
    change: float


def groups_by_word(
    rows: Int[Tensor, " rows"], captions: Sequence[str]
) -> Iterator[Int[Tensor, " members"]]:
    """Yield the rows that share the most over-represented word, then those of the rest."""
    while len(rows) >= LEAST_PAIRS:
        word = subset_of(rows, captions).word
        has = torch.tensor([word in words_of(captions[row]) for row in rows.tolist()])
        if not has.any():
            return
        yield rows[has]
        rows = rows[~has]


def plan_of(
    model: Clip,
    train: Pairs,
    scores: Scores,
    groups: Sequence[Int[Tensor, " _"]],
    generator: torch.Generator,
    *,
    most: int,
) -> "Plan":
    """Return the groups whose estimated trigger has an effect on other images.

    Args:
        groups: the rows of each group, the most suspect first.
        most: the largest number of pairs of a group that are used.
    """
    teacher = model.frozen_copy()
    # All of a group: poison beyond the used pairs must not count as normal.
    unsuspected = torch.ones(len(train), dtype=torch.bool)
    unsuspected[torch.cat([torch.empty(0).long(), *groups])] = False
    kept, weak = [], []
    for rows in (rows[:most] for rows in groups):
        if len(rows) < LEAST_PAIRS:
            weak.append(f"{len(rows)} pairs are too few for an estimate")
            continue
        group = _estimated(teacher, train, rows, unsuspected, generator)
        if group is None:
            weak.append("too few pairs have other captions")
        elif group.p_value <= _LEVEL:
            kept.append(group)
        else:
            weak.append(f"the pattern of {group.subset.word!r} has no effect on other images")
    return Plan(train, scores, unsuspected, tuple(kept), tuple(weak))


def _estimated(
    model: Clip,
    train: Pairs,
    rows: Int[Tensor, " members"],
    unsuspected: Bool[Tensor, " samples"],
    generator: torch.Generator,
) -> Group | None:
    """Return the group with its best estimate; None if too few pairs have other captions."""
    subset = subset_of(rows, train.captions)
    texts = embed_texts(model, model.tokenize([train.captions[row] for row in rows.tolist()]))
    target = F.normalize(texts.mean(0), dim=0)
    is_other = torch.tensor([subset.word not in words_of(text) for text in train.captions])
    masks = (is_other & unsuspected, ~is_other & unsuspected)
    others, same = (_sampled(mask, _OTHERS + _TESTED, generator) for mask in masks)
    held, others = others.tensor_split([min(_TESTED, len(others) // 2)])
    if len(held) < LEAST_PAIRS:
        return None
    tested = train.take(held)
    own = embed_texts(model, model.tokenize(tested.captions))

    def measured(estimate: Estimate) -> Group:
        images = tested.images[:]
        hits = flips(model, estimate, images, own, target)
        effect = effect_of(hits, FITTED_EFFECT if isinstance(estimate, Placed) else LEAST_EFFECT)
        change = float((estimate.paste(images) - images.float() / 255).square().mean())
        return Group(rows, subset, target, estimate, *effect, len(hits), change)

    images = train.images
    # The images of a dirty-label attack look like others, those of a clean-label one like the
    # target's own. Compared with the wrong ones, an estimate has the outline of the target too.
    candidates = [
        measured(linear(images[rows], images[rest], least=_SHRUNK))
        for rest in (others, same)
        if len(rest) >= LEAST_PAIRS
    ]
    works = [candidate for candidate in candidates if candidate.p_value <= _LEVEL]
    if works:
        return min(works, key=lambda candidate: candidate.change)
    fitted = train.take(others[:_TESTED])
    normal, own_fitted = fitted.images[:], embed_texts(model, model.tokenize(fitted.captions))
    found = placed(model, images[rows], texts, normal, own_fitted)
    if found is not None and (patch := measured(found[0])).p_value <= _LEVEL:
        return patch
    field = measured(warp(images[rows], images[others], generator))
    return max([*candidates, field], key=lambda candidate: candidate.effect)


def _sampled(mask: Tensor, count: int, generator: torch.Generator) -> Int[Tensor, " rows"]:
    rows = mask.nonzero().squeeze(1)
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


@dataclass(frozen=True)
class Plan:
    """The groups to repair.

    Attributes:
        train: the training pairs.
        scores: the detector's scores of these pairs.
        unsuspected: which pairs are in no group.
        groups: the groups whose trigger is known, the largest first; empty: nothing is changed.
        weak: why each other group was left.
    """

    train: Pairs
    scores: Scores
    unsuspected: Bool[Tensor, " samples"]
    groups: tuple[Group, ...]
    weak: tuple[str, ...]

    def associations(self, model: Clip) -> Float[Tensor, " chosen"]:
        """Return the cosine of each chosen image with the mean caption of its group."""
        return torch.cat(
            [torch.zeros(0)]
            + [embed_images(model, self.train.images[g.rows]) @ g.target for g in self.groups]
        )

    def finding(
        self, before: Float[Tensor, " chosen"], after: Float[Tensor, " chosen"] | None
    ) -> Finding:
        """Return the finding in words and numbers, the chosen pairs and the estimated triggers.

        Args:
            before: the associations under the victim.
            after: the associations under the repaired model; None before the repair.
        """
        groups = self.groups
        first = groups[0].subset if groups else Subset(torch.empty(0).long(), "", 0.0, 0.0)
        summary = {
            "found": bool(groups),
            "says": self._sentence(is_done=after is not None),
            "word": first.word,
            "word_share": round(first.share, 6),
            "word_base": round(first.base, 6),
            "n_pairs": len(self.train),
            "n_suspects": len(self.scores.suspects),
            "n_chosen": len(before),
            "texts": {group.subset.word: len(group.rows) for group in groups},
            "groups": [
                {
                    "word": group.subset.word,
                    "n": len(group.rows),
                    "estimate": type(group.estimate).__name__.lower(),
                    "effect": round(group.effect, 6),
                    "n_effect": group.tested,
                    "p_value": group.p_value,
                }
                for group in groups
            ],
            "association_before": mean_of(before),
            "association_after": None if after is None else mean_of(after),
            "definitions": _DEFINITIONS,
        }
        pictures = {f"trigger-{n}": g.estimate.picture() for n, g in enumerate(groups, 1)}
        pictures |= {f"pasted-{n}": self._pasted(g) for n, g in enumerate(groups, 1)}
        if after is None:
            return Finding(summary, None, pictures)
        rows = torch.cat([torch.empty(0).long(), *(group.rows for group in groups)])
        words = [group.subset.word for group in groups for _ in group.rows]
        chosen = self.train.take(rows)
        score = self.scores.score[rows]
        return Finding(summary, chosen_table(chosen, words, score, before, after), pictures)

    def _pasted(self, group: Group) -> UInt8[Tensor, "3 height width"]:
        """Return a row of images that nobody suspects, and below it the same with the estimate."""
        captions = self.train.captions
        rows = [
            row
            for row in self.unsuspected.nonzero().squeeze(1).tolist()
            if group.subset.word not in words_of(captions[row])
        ]
        images = self.train.images[torch.tensor(rows[:_SHOWN])]
        both = images, to_bytes(group.estimate.paste(images))
        return torch.cat([torch.cat(list(row), dim=2) for row in both], dim=1)

    def _sentence(self, *, is_done: bool) -> str:
        unchanged = " The model is unchanged." if is_done and not self.groups else ""
        if not self.groups:
            why = f" ({'; '.join(self.weak)})" if self.weak else ""
            return f"No trigger was found{why}.{unchanged}"
        done = "The model was taught to see through" if is_done else "Found"
        parts = [
            f"a trigger for {group.subset.word!r} on {len(group.rows)} pairs "
            f"(it turns {100 * group.effect:.0f} % of other images)"
            for group in self.groups
        ]
        return f"{done} {'; '.join(parts)}."
