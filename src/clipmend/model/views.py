"""Augmented views for the self-supervised terms: AutoAugment images, EDA captions."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.model.transforms import transforms

PACKAGE_DATA = ("synonyms.json",)
Policy = Literal["imagenet", "cifar10", "svhn"]
_EDA_STRENGTH = 0.1  # share of the words that one operation changes, as the EDA paper recommends


Step = tuple[str, float]
"""An operation of AutoAugment and its magnitude."""


class _AutoAugment(transforms.AutoAugment):  # type: ignore[misc]
    """torchvision's AutoAugment, which samples per image and applies each step to a group.

    It uses private members of torchvision's class; torchvision is pinned to the patch release.
    """

    def views(
        self, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """Return a view of each image."""
        size = (images.shape[-2], images.shape[-1])
        views = images.clone()
        sampled = [self._sample(size, generator) for _ in images]
        # At 32 pixels nearly all of the time is call overhead: images with the same step share one.
        for order in range(2):  # every policy has two steps
            rows: dict[Step, list[int]] = {}
            for row, steps in enumerate(sampled):
                if (step := steps[order]) is not None:
                    rows.setdefault(step, []).append(row)
            for (operation, magnitude), group in rows.items():
                views[group] = self._apply_image_or_video_transform(
                    views[group], operation, magnitude, self.interpolation, self._fill
                )
        return views

    def _sample(self, size: tuple[int, int], generator: torch.Generator) -> list[Step | None]:
        """Return both steps of a sampled policy, None for a step that is left out."""
        policy = self._policies[_below(len(self._policies), generator)]
        steps: list[Step | None] = []
        for operation, probability, level in policy:
            chance, sign = torch.rand(2, generator=generator).tolist()
            levels, signed = self._AUGMENTATION_SPACE[operation]
            magnitudes = levels(10, *size)
            magnitude = 0.0 if magnitudes is None else float(magnitudes[level])
            flipped = signed and sign <= 0.5
            step = (operation, -magnitude if flipped else magnitude)
            steps.append(step if chance <= probability else None)
        return steps


@cache
def _augment(policy: Policy) -> _AutoAugment:
    return _AutoAugment(transforms.AutoAugmentPolicy(policy))


def autoaugment(
    images: UInt8[Tensor, "batch 3 height width"],
    generator: torch.Generator,
    *,
    policy: Policy = "imagenet",
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return one AutoAugment view of each image (arXiv:1805.09501), sampled per image."""
    return _augment(policy).views(images, generator)


@cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Return each word's synonyms, from the list that comes with the package.

    Differs from the paper: easy data augmentation (EDA) uses WordNet, which needs a download.
    """
    groups = json.loads((Path(__file__).parent / "synonyms.json").read_text())
    return {
        word: tuple(other for other in group if other != word) for group in groups for word in group
    }


def synonym_words() -> tuple[str, ...]:
    """Return every word that ``eda`` can add to a caption."""
    return tuple(synonyms())


def eda(captions: Sequence[str], generator: torch.Generator) -> list[str]:
    """Return one EDA view of each caption (arXiv:1901.11196).

    One of four operations is sampled for each caption: replace words by synonyms, insert
    synonyms, swap words, or delete words. A caption to which it does not apply is unchanged.
    """
    operations = (_replace, _insert, _swap, _delete)
    views = []
    for caption in captions:
        words = caption.split()
        operation = operations[_below(len(operations), generator)]
        for _ in range(max(1, round(_EDA_STRENGTH * len(words)))):
            words = operation(words, generator)
        views.append(" ".join(words))
    return views


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))


def _with_synonyms(words: list[str]) -> list[int]:
    return [place for place, word in enumerate(words) if word in synonyms()]


def _synonym(word: str, generator: torch.Generator) -> str:
    others = synonyms()[word]
    return others[_below(len(others), generator)]


def _replace(words: list[str], generator: torch.Generator) -> list[str]:
    if not (places := _with_synonyms(words)):
        return words
    place = places[_below(len(places), generator)]
    return [*words[:place], _synonym(words[place], generator), *words[place + 1 :]]


def _insert(words: list[str], generator: torch.Generator) -> list[str]:
    if not (places := _with_synonyms(words)):
        return words
    word = _synonym(words[places[_below(len(places), generator)]], generator)
    place = _below(len(words) + 1, generator)
    return [*words[:place], word, *words[place:]]


def _swap(words: list[str], generator: torch.Generator) -> list[str]:
    if len(words) < 2:
        return words
    first, second = _below(len(words), generator), _below(len(words), generator)
    swapped = list(words)
    swapped[first], swapped[second] = words[second], words[first]
    return swapped


def _delete(words: list[str], generator: torch.Generator) -> list[str]:
    if len(words) < 2:
        return words
    place = _below(len(words), generator)
    return [*words[:place], *words[place + 1 :]]
