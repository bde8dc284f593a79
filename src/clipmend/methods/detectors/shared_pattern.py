"""Finds words whose images split in two by a pattern of pixels that makes other images fit them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.data.streaming import take_images
from clipmend.data.words import vocabulary_of
from clipmend.methods.descriptions import Cosines, Texture
from clipmend.methods.detectors.clip_score import similarity
from clipmend.methods.interfaces import Assets, PairScores
from clipmend.methods.registration import placed
from clipmend.methods.settings import Count, Fraction, PositiveFraction
from clipmend.methods.trigger_estimates import (
    FITTED_EFFECT,
    LEAST_EFFECT,
    Estimate,
    Pixels,
    effect_of,
    flips,
    linear,
    reduced,
    warp,
)
from clipmend.methods.two_groups import gram_of, splits, valley
from clipmend.model.clip import Clip, embed_texts
from clipmend.model.fit import Hooks

_REFERENCE = 4000  # pairs that the statistics of natural images come from
_BLOCK = 256  # images reduced at once
_SCREENED = 128  # images that screen an effect
_FITTED = 1000  # images without the word that an estimate is compared with
_SHRUNK = 9.0  # see ``linear``: content of few images must not look like a trigger
_MOVED = 0.25  # an estimate that moves images less is not what the parts differ in
_MOSTLY = 0.5  # if more of a part is in a known group, the part is that group


@dataclass(frozen=True)
class SharedPattern:
    """Scores pairs by the pattern of pixels that they share with other pairs of a word.

    Every word of the captions is tested. A group of its pairs must share a pattern of pixels. The
    pattern must make other images fit the captions of the group.

    1. Split: images are described in a basis in which natural images have nearly uncorrelated
       coefficients of equal variance; patterns of an attacker then stand out. Two descriptions are
       used: a cosine basis, for triggers that replace or add pixels, and the texture of each cell,
       for warps. A principal direction of the word's images splits them in two. Each half of the
       images then splits the other half, again and again.
    2. Valley: two groups leave a gap between them, where one group has its densest part. The
       p-value is that of a binomial test of the counts in the gap against the counts at a center.
       Each image is counted along a direction that was found without it.
    3. Effect: the trigger is estimated from the two groups and pasted on other images. The
       p-value is that of a binomial test against an effect on a quarter of them.

    A group is a finding if both p-values, times the number of splits that were tested, are at most
    ``level``. The larger one is reported.

    If no group is found, each word is searched for a patch at another place in each image, by
    registration (``methods/registration.py``); the same two kinds of test apply.

    New here. Spectral signatures (arXiv:1811.00636) split the embeddings of a class; these split
    the pixels of a word, and test the effect on the model.

    Attributes:
        least_pairs: the smallest group.
        most_share: a word that a larger share of all captions have is not tested.
        directions: number of principal directions that are tried for each description.
        sampled: the largest number of pairs of a word that are split.
        tested: number of images in the test of the effect.
        level: the rate of false alarms.
    """

    least_pairs: Count = 16
    most_share: PositiveFraction = 0.5
    directions: Count = 3
    sampled: Count = 1000
    tested: Count = 1000
    level: Fraction = 0.05

    def __call__(self, assets: Assets, generator: torch.Generator, hooks: Hooks) -> PairScores:
        """Return the scores, each pair's similarity, group and p-value, and the suspects.

        Groups are numbered from 1, the largest first; pairs outside a group have 0. Their p-value
        is the smallest of all groups that are not significant.
        """
        train, model = assets.train(), assets.model.frozen_copy()
        fit = similarity(model, train)
        search = _Search(self, model, train, generator)
        group = torch.zeros(len(train), dtype=torch.int32)
        p_value, score = torch.ones(len(train)), -fit
        candidates = sorted(search.candidates(), key=lambda c: (-len(c.rows), c.word))
        found = [c for c in candidates if c.p_value <= self.level]
        p_value[:] = min((c.p_value for c in candidates if c not in found), default=1.0)
        number = 0
        for candidate in found:
            rows = candidate.rows[group[candidate.rows] == 0]
            # Words of one caption find the same group; the largest one has its name.
            if 2 * len(rows) < len(candidate.rows):
                continue
            number += 1
            group[rows], p_value[rows] = number, candidate.p_value
            # Cosines are at most 1, so 2 puts every member above all other pairs.
            score[rows] = 2 + candidate.effect + fit[rows]
        columns = {
            "similarity_before": fit,
            "suspect": group > 0,
            "group": group,
            "p_value": p_value.float(),
        }
        return PairScores(score, columns)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A group of pairs with a word, whose images share a pattern.

    Attributes:
        effect: share of other images that fit the captions of the group under the pattern.
    """

    word: str
    rows: Int[Tensor, " group"]
    p_value: float
    effect: float


@dataclass(frozen=True, eq=False)
class _Split:
    """A word's rows in two parts; one of them may be the group with the trigger.

    Attributes:
        upper: which rows are in the upper part.
        p_value: of the valley between the parts.
        describe: the description of images in which they were split.
        high: the mean description of the upper part.
        low: that of the lower part.
    """

    rows: Int[Tensor, " sampled"]
    upper: Bool[Tensor, " sampled"]
    p_value: float
    describe: "Cosines | Texture"
    high: Float[Tensor, " features"]
    low: Float[Tensor, " features"]

    def position(self, pixels: Pixels) -> Float[Tensor, " batch"]:
        """Return where images are between the means of the parts: -0.5 is low and 0.5 is high."""
        axis = self.high - self.low
        return (self.describe(pixels) - (self.high + self.low) / 2) @ axis / axis.square().sum()


@dataclass(frozen=True, eq=False)
class _Side:
    """One part of a split as the group with the trigger.

    Attributes:
        sign: 1 for the upper part, -1 for the lower one.
        target: the mean embedding of the group's captions.
        estimate: the trigger that would make the group of the other part.
    """

    split: _Split
    sign: int
    target: Float[Tensor, " dim"]
    estimate: Estimate

    @property
    def group(self) -> Int[Tensor, " group"]:
        """The rows of the group."""
        return self.split.rows[self.split.upper == (self.sign > 0)]


class _Search:
    """Tests every word of the captions of a victim."""

    def __init__(
        self,
        settings: SharedPattern,
        model: Clip,
        train: Pairs,
        generator: torch.Generator,
    ) -> None:
        self.settings, self.model, self.train = settings, model, train
        self.generator = generator
        self.texts = embed_texts(model, model.tokenize(train.captions))
        self.sample = self._shuffled(torch.arange(len(train)))[:_REFERENCE]

    @cached_property
    def describe(self) -> "tuple[Cosines, Texture]":
        """The two descriptions; they are not defined for a single pair."""
        # Reduced in blocks, since large images as floats would fill the memory.
        blocks = take_images(self.train.images, self.sample).split(_BLOCK)
        natural = torch.cat([reduced(block.float() / 255) for block in blocks])
        return Cosines(natural), Texture(natural)

    def candidates(self) -> Iterator[_Candidate]:
        """Yield the groups whose split is significant, with the p-value of split and effect."""
        count, settings = len(self.train), self.settings
        least = 2 * settings.least_pairs
        words = {
            word: torch.tensor(rows)
            for word, rows in vocabulary_of(self.train.captions).items()
            if least <= len(rows) <= min(settings.most_share * count, count - least)
        }
        # Splits in each of two descriptions, and the search for a patch.
        tests = (2 * settings.directions + 1) * max(1, len(words))
        taken = torch.zeros(count, dtype=torch.bool)
        # Rare words first: the target has a group of its own, and common words have parts of it.
        for word in sorted(words, key=lambda word: (len(words[word]), word)):
            candidate = self._tested(word, words[word], taken, tests)
            if candidate is not None:
                taken[candidate.rows] |= candidate.p_value <= settings.level
                yield candidate
        if taken.any():
            return  # a patch at another place in each image is looked for last, to save time
        for word, rows in words.items():
            candidate = self._with_patch(word, rows, tests)
            if candidate is not None:
                yield candidate

    def _with_patch(self, word: str, rows: Int[Tensor, " rows"], tests: int) -> _Candidate | None:
        """Return the group of a word whose images have a patch, at another place in each."""
        own, others = self._samples(rows)
        others = others[: self.settings.tested]
        images, texts = self.train.images, self.texts
        found = placed(self.model, images[own], texts[own], images[others], texts[others])
        if found is None or tests * found[1] > self.settings.level:
            return None
        patch, p_value = found
        members = torch.cat([part[patch.is_in(images[part])] for part in rows.split(_BLOCK)])
        if len(members) < self.settings.least_pairs:
            return None
        target = F.normalize(texts[members].mean(0), dim=0)
        hits = torch.zeros(0, dtype=torch.bool)
        for part in others.tensor_split([_SCREENED]):
            hits = torch.cat([hits, flips(self.model, patch, images[part], texts[part], target)])
            effect, p_effect = effect_of(hits, FITTED_EFFECT)
            if effect < FITTED_EFFECT / 2:
                return None
        return _Candidate(word, members, min(1.0, tests * max(p_value, p_effect)), effect)

    def _samples(self, rows: Int[Tensor, " rows"]) -> tuple[Tensor, Tensor]:
        """Return pairs of a word, and pairs without it."""
        has = torch.zeros(len(self.train), dtype=torch.bool)
        has[rows] = True
        others = self._shuffled((~has).nonzero().squeeze(1))
        own = self._shuffled(rows)
        return own[: self.settings.sampled], others[: self.settings.tested + _FITTED]

    def _shuffled(self, rows: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
        return rows[torch.randperm(len(rows), generator=self.generator)]

    def _tested(
        self, word: str, rows: Int[Tensor, " rows"], taken: Bool[Tensor, " samples"], tests: int
    ) -> _Candidate | None:
        """Return the group of a word with the smallest p-value, if it has one with an effect."""
        settings, best = self.settings, None
        sampled, others = self._samples(rows)
        fitted, others = others.tensor_split([min(_FITTED, len(others) // 2)])
        for split in sorted(self._splits(sampled), key=lambda split: split.p_value):
            parts = split.rows[split.upper], split.rows[~split.upper]
            is_known = any(taken[part].float().mean() > _MOSTLY for part in parts)
            if is_known or split.p_value * tests > settings.level:
                continue
            side = self._side(split, fitted)
            if side is None:
                continue
            effect, p_effect = effect_of(self._hits(side, others), LEAST_EFFECT)
            p_value = min(1.0, tests * max(split.p_value, p_effect))
            if best is None or p_value < best.p_value:
                best = _Candidate(word, self._members(side, rows), p_value, effect)
            if best.p_value <= settings.level:
                break  # further splits would show the same group
        return best

    def _splits(self, rows: Int[Tensor, " sampled"]) -> Iterator[_Split]:
        least = self.settings.least_pairs
        if len(rows) < 2 * least:
            return
        pixels = self.train.images[rows].float() / 255
        for describe in self.describe:
            features = describe(pixels)
            gram = gram_of(features)
            for upper in splits(gram, self.settings.directions):
                if least <= int(upper.sum()) <= len(rows) - least:
                    high, low = features[upper].mean(0), features[~upper].mean(0)
                    p_value = valley(gram, upper, self.settings.directions)
                    yield _Split(rows, upper, p_value, describe, high, low)

    def _side(self, split: _Split, fitted: Int[Tensor, " fitted"]) -> _Side | None:
        """Return the part of the split that may be the group, with the estimate of most effect."""
        screened, best = fitted[:_SCREENED], None
        for sides in self._sides(split, fitted):
            # Compared with others, a part without a trigger shows what the word looks like.
            moving = [one for one in sides if self._moves(one, screened) > _MOVED]
            hits = [int(self._hits(one, screened).sum()) for one in moving]
            if moving and max(hits) > LEAST_EFFECT * len(screened):
                return moving[hits.index(max(hits))]
            if moving and best is None:
                best = moving[hits.index(max(hits))]
        return best

    def _sides(self, split: _Split, fitted: Int[Tensor, " fitted"]) -> Iterator[list[_Side]]:
        """Yield the estimates of each part that may be the group, the likelier part first."""
        images = self.train.images
        parts = {1: split.rows[split.upper], -1: split.rows[~split.upper]}

        def side(sign: int, estimate: Estimate) -> _Side:
            target = F.normalize(self.texts[parts[sign]].mean(0), dim=0)
            return _Side(split, sign, target, estimate)

        if isinstance(split.describe, Texture):
            # Either part may look warped, but only the group shows the content of others.
            sign = min(parts, key=lambda sign: self._distance(parts[sign], fitted))
            yield [side(sign, warp(images[parts[sign]], images[fitted], self.generator))]
            return
        # Without the trigger, images of the word mostly lie where others lie along the split. Both
        # parts may have an effect: a backdoor by stripes also answers to the inverted stripes.
        apart = float(split.position(images[fitted].float() / 255).mean())
        first = 1 if apart < 0 else -1
        for sign in (first, -first):
            # The images of a dirty-label attack look like others, those of a clean-label one like
            # the other part.
            yield [
                side(sign, linear(images[parts[sign]], images[rest], least=_SHRUNK))
                for rest in (parts[-sign], fitted)
            ]

    def _moves(self, side: _Side, rows: Int[Tensor, " others"]) -> float:
        """Return how far the estimate moves images from the other part (0) to the group (1)."""
        images, position = self.train.images[rows], side.split.position
        moved = position(side.estimate.paste(images)) - position(images.float() / 255)
        return float(side.sign * moved.mean())

    def _distance(self, group: Int[Tensor, " group"], others: Int[Tensor, " others"]) -> float:
        """Return an unbiased squared distance between the mean contents of two sets of images."""
        own, rest = (
            self.describe[0].content(self.train.images[rows].float() / 255)
            for rows in (group, others)
        )
        noise = own.var(0).sum() / len(own) + rest.var(0).sum() / len(rest)
        return float((own.mean(0) - rest.mean(0)).square().sum() - noise)

    def _hits(self, side: _Side, rows: Int[Tensor, " others"]) -> Bool[Tensor, " others"]:
        """Return which images fit the group's captions when triggered."""
        images, texts = self.train.images[rows], self.texts[rows]
        return flips(self.model, side.estimate, images, texts, side.target)

    def _members(self, side: _Side, rows: Int[Tensor, " rows"]) -> Int[Tensor, " members"]:
        """Return the group, and the pairs of the word outside the sample that look like it."""
        unseen = rows[~torch.isin(rows, side.split.rows)]
        placed = [
            side.sign * side.split.position(part.float() / 255) > 0
            for part in take_images(self.train.images, unseen).split(_BLOCK)
        ]
        alike = unseen[torch.cat(placed)] if placed else unseen
        return torch.cat([side.group, alike]).sort().values
