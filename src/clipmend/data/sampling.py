"""Seeded samples of pairs, and the shuffled order of a training epoch."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.row_groups import GROUP
from clipmend.data.seeds import seed_of


def seeded_order(ids: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Sort ids by a seeded hash, so two ids keep their order whatever else is in the list."""
    return sorted(ids, key=lambda row_id: (seed_of(seed, f"{purpose}/{row_id}"), row_id))


def sample(ids: Sequence[str], count: int) -> Int[Tensor, " rows"]:
    """Return the rows of ``count`` sampled ids, ascending; all rows if there are fewer.

    The sample depends on the ids alone, not on the order of rows or on the seed of a run: models
    of all seeds and methods are measured on the same images.
    """
    if count >= len(ids):
        return torch.arange(len(ids))
    # The first rows would be a biased sample of a split that is sorted by class.
    sampled = set(seeded_order(ids, 0, "sample")[:count])
    return torch.tensor([row for row, row_id in enumerate(ids) if row_id in sampled])


_GROUPS = 256  # groups whose rows are shuffled together


def shuffled(count: int, generator: torch.Generator) -> Int[Tensor, " samples"]:
    """Return the rows from 0 to ``count - 1`` in shuffled order.

    Up to 32,768 rows this is one permutation. For more rows, row groups are shuffled first, and
    then the rows within each 256 consecutive groups, like a shuffle buffer of 32,768 rows.
    """
    # An epoch over a file then reads each row group once. The order is the same in memory.
    if count <= _GROUPS * GROUP:
        return torch.randperm(count, generator=generator)
    groups = torch.arange(count).split(GROUP)
    order = torch.randperm(len(groups), generator=generator)
    parts = [torch.cat([groups[group] for group in part]) for part in order.split(_GROUPS)]
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for rows in parts])
