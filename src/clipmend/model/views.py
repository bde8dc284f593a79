"""Augmented views for the self-supervised terms: AutoAugment images, EDA captions."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.model.openclip import transforms

PACKAGE_DATA = ("synonyms.json",)
Policy = Literal["imagenet", "cifar10", "svhn"]
_EDA_STRENGTH = 0.1  # share of the words that one operation changes, as the EDA paper recommends


Step = tuple[str, float]
"""An operation of AutoAugment and how strong it is."""


class _AutoAugment(transforms.AutoAugment):  # type: ignore[misc]
    """torchvision's AutoAugment, image by image in what it draws, group by group in what it does.

    At 32 pixels nearly all of the time goes into calls: images that drew the same step share one.
    """

    def views(
        self, images: UInt8[Tensor, "batch 3 height width"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch 3 height width"]:
        """Return a view of each image."""
        size = (images.shape[-2], images.shape[-1])
        views = images.clone()
        drawn = [self._draw(size, generator) for _ in images]
        for order in range(2):  # every policy has two steps
            rows: dict[Step, list[int]] = {}
            for row, steps in enumerate(drawn):
                if (step := steps[order]) is not None:
                    rows.setdefault(step, []).append(row)
            for (operation, magnitude), group in rows.items():
                views[group] = self._apply_image_or_video_transform(
                    views[group], operation, magnitude, self.interpolation, self._fill
                )
        return views

    def _draw(self, size: tuple[int, int], generator: torch.Generator) -> list[Step | None]:
        """Return both steps of a policy, None for one that is left out."""
        policy = self._policies[_draw(len(self._policies), generator)]
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
    """Return one AutoAugment view of each image (arXiv:1805.09501), each drawn for itself."""
    return _augment(policy).views(images, generator)


@cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Return each word's synonyms, from the list that comes with the package.

    Differs from the paper: EDA asks WordNet, which cannot be had without a download.
    """
    groups = json.loads((Path(__file__).parent / "synonyms.json").read_text())
    return {
        word: tuple(other for other in group if other != word) for group in groups for word in group
    }


def synonym_words() -> tuple[str, ...]:
    """Return every word that ``eda`` may bring into a caption."""
    return tuple(synonyms())


def eda(captions: Sequence[str], generator: torch.Generator) -> list[str]:
    """Return one EDA view of each caption (arXiv:1901.11196).

    One of the four operations, drawn for each caption: replace words by synonyms, insert
    synonyms, swap words, delete words. A caption in which it can do nothing stays as it is.
    """
    operations = (_replace, _insert, _swap, _delete)
    views = []
    for caption in captions:
        words = caption.split()
        operation = operations[_draw(len(operations), generator)]
        for _ in range(max(1, round(_EDA_STRENGTH * len(words)))):
            words = operation(words, generator)
        views.append(" ".join(words))
    return views


def _draw(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _with_synonyms(words: list[str]) -> list[int]:
    return [place for place, word in enumerate(words) if word in synonyms()]


def _synonym(word: str, generator: torch.Generator) -> str:
    known = synonyms()[word]
    return known[_draw(len(known), generator)]


def _replace(words: list[str], generator: torch.Generator) -> list[str]:
    if not (places := _with_synonyms(words)):
        return words
    place = places[_draw(len(places), generator)]
    return [*words[:place], _synonym(words[place], generator), *words[place + 1 :]]


def _insert(words: list[str], generator: torch.Generator) -> list[str]:
    if not (places := _with_synonyms(words)):
        return words
    word = _synonym(words[places[_draw(len(places), generator)]], generator)
    place = _draw(len(words) + 1, generator)
    return [*words[:place], word, *words[place:]]


def _swap(words: list[str], generator: torch.Generator) -> list[str]:
    if len(words) < 2:
        return words
    one, other = _draw(len(words), generator), _draw(len(words), generator)
    swapped = list(words)
    swapped[one], swapped[other] = words[other], words[one]
    return swapped


def _delete(words: list[str], generator: torch.Generator) -> list[str]:
    if len(words) < 2:
        return words
    place = _draw(len(words), generator)
    return [*words[:place], *words[place + 1 :]]
