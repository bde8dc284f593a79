"""What an attacker knows of two hundred pairs, one in ten of which is a banana."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from clipmend.data.splits import Pairs
from clipmend.methods.attacks.knowledge import Knowledge

SIDE = 32
PAIRS = 200
CLASSES = ("apple", "car", "tree")


@pytest.fixture(scope="package")
def known() -> Callable[..., Knowledge]:
    """Return what makes the knowledge, some of it set."""
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(256, (PAIRS, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    is_target = torch.arange(PAIRS) % 10 == 0
    names = ["banana" if is_target[row] else CLASSES[row % 3] for row in range(PAIRS)]
    pairs = Pairs(
        ids=tuple(f"row-{row}" for row in range(PAIRS)),
        images=images,
        captions=tuple(f"a picture of a {name}" for name in names),
        label=torch.full((PAIRS,), -1),
        is_poisoned=torch.zeros(PAIRS, dtype=torch.bool),
    )
    whole = Knowledge(
        ids=pairs.ids,
        captions=pairs.captions,
        is_target=is_target,
        is_free=torch.ones(PAIRS, dtype=torch.bool),
        pairs=pairs.take,
        target="banana",
        templates=("a photo of a {}", "this is a {}"),
        image_size=SIDE,
        seed=0,
    )

    def make(**changes: Any) -> Knowledge:
        return replace(whole, **changes)

    return make
