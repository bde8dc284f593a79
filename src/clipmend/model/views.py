"""Augmented views for the self-supervised terms: AutoAugment images, EDA captions."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.model.autoaugment import Policy, augment

PACKAGE_DATA = ("synonyms.json",)
_EDA_STRENGTH = 0.1  # share of the words that one operation changes, as the EDA paper recommends


def autoaugment(
    images: UInt8[Tensor, "batch 3 height width"],
    generator: torch.Generator,
    *,
    policy: Policy = "imagenet",
) -> UInt8[Tensor, "batch 3 height width"]:
    """Return one AutoAugment view of each image (arXiv:1805.09501), sampled per image."""
    return augment(policy).views(images, generator)


@cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Return each word's synonyms, from the list that comes with the package.

    Differs from the paper: easy data augmentation (EDA) uses WordNet, which needs a download.
    """
    groups = json.loads((Path(__file__).parent / "synonyms.json").read_text(encoding="utf-8"))
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
