"""The order in which a pass over pairs shows them."""

import torch
from jaxtyping import Int
from torch import Tensor

from clipmend.data.row_groups import GROUP

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
