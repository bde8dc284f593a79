"""Pairs drawn by their ids: the same ones in whatever order the rows stand."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.seeds import seed_of


def seeded_order(ids: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Return the ids in a seeded order, in which two stand as they would without the others."""
    return sorted(ids, key=lambda row_id: (seed_of(seed, f"{purpose}/{row_id}"), row_id))


def sample(ids: Sequence[str], count: int) -> Int[Tensor, " rows"]:
    """Return where ``count`` of the ids stand, ascending; all where there are no more.

    No run's seed has a part in it: models of all seeds and methods are measured on the same
    images. The first rows would be no sample of a split that stands class by class.
    """
    if count >= len(ids):
        return torch.arange(len(ids))
    drawn = set(seeded_order(ids, 0, "sample")[:count])
    return torch.tensor([row for row, row_id in enumerate(ids) if row_id in drawn])
