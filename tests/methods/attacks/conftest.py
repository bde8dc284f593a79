"""The attack context of two hundred pairs, one in ten of which shows the target, a banana."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from clipmend.data.splits import Pairs
from clipmend.methods.attacks.attack import AttackContext

SIDE = 32
PAIRS = 200
CLASSES = ("apple", "car", "tree")


@pytest.fixture(scope="package")
def make_context() -> Callable[..., AttackContext]:
    """Return a function that makes the context, with some of its attributes replaced."""
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(256, (PAIRS, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    labels = tuple("banana" if row % 10 == 0 else CLASSES[row % 3] for row in range(PAIRS))
    pairs = Pairs(
        ids=tuple(f"row-{row}" for row in range(PAIRS)),
        images=images,
        captions=tuple(f"a picture of a {name}" for name in labels),
        label=torch.full((PAIRS,), -1),
        is_poisoned=torch.zeros(PAIRS, dtype=torch.bool),
    )
    default = AttackContext(
        ids=pairs.ids,
        captions=pairs.captions,
        labels=labels,
        load=pairs.take,
        target="banana",
        templates=("a photo of a {}", "this is a {}"),
        image_size=SIDE,
        seed=0,
    )

    def make(**changes: Any) -> AttackContext:
        return replace(default, **changes)

    return make


@pytest.fixture
def context(make_context: Callable[..., AttackContext]) -> AttackContext:
    return make_context()


@pytest.fixture
def eight(context: AttackContext) -> Pairs:
    """Return eight pairs."""
    return context.load(torch.arange(8))
