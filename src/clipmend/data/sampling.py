"""Seeded samples of pairs, and the shuffled order of a training epoch."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.row_groups import GROUP
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


_GROUPS = 256  # groups whose rows are shuffled among one another


def shuffled(count: int, generator: torch.Generator) -> Int[Tensor, " samples"]:
    """Return the rows from 0 to ``count``, each once, shuffled.

    Up to 32,768 rows this is one permutation. Of more rows, groups of neighbors are shuffled, and
    then the rows within each 256 groups that follow one another, as a shuffle buffer of 32,768 rows
    does: a pass over a file then reads each of its groups once. Whether the rows are in memory or
    in a file does not matter.
    """
    if count <= _GROUPS * GROUP:
        return torch.randperm(count, generator=generator)
    groups = torch.arange(count).split(GROUP)
    order = torch.randperm(len(groups), generator=generator)
    return torch.cat([_mixed(groups, part, generator) for part in order.split(_GROUPS)])


def _mixed(
    groups: tuple[Tensor, ...], part: Tensor, generator: torch.Generator
) -> Int[Tensor, " rows"]:
    rows = torch.cat([groups[group] for group in part.tolist()])
    return rows[torch.randperm(len(rows), generator=generator)]
