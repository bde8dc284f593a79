"""The scores that a detector gave to the training pairs, as later stages read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.errors import ArtifactError


@dataclass(frozen=True)
class Scores:
    """The result of a detector.

    Attributes:
        score: one score per pair, higher = more suspect.
        suspects: rows of the suspected pairs; all rows if the detector names none.
        groups: rows of the pairs that share a pattern, by group; empty if the detector has none.
    """

    score: Float[Tensor, " samples"]
    suspects: Int[Tensor, " suspects"]
    groups: tuple[Int[Tensor, " _"], ...] = ()


def read_scores(folder: Path, ids: Sequence[str]) -> Scores:
    """Read ``scores.parquet`` of a detector's folder.

    Args:
        ids: the ids of the training pairs, in order.

    Raises:
        ArtifactError: the file scores other pairs, or another order.
    """
    table = pq.read_table(folder / "scores.parquet")
    if table["id"].to_pylist() != list(ids):
        raise ArtifactError(f"{folder} does not score the pairs of this victim in their order.")
    score = torch.from_numpy(table["score"].to_numpy().copy())
    if "suspect" not in table.column_names:
        return Scores(score, torch.arange(len(score)))
    suspects = torch.from_numpy(table["suspect"].to_numpy().nonzero()[0])
    if "group" not in table.column_names:
        return Scores(score, suspects)
    return Scores(score, suspects, grouped(torch.from_numpy(table["group"].to_numpy().copy())))


def grouped(group: Int[Tensor, " samples"]) -> tuple[Int[Tensor, " _"], ...]:
    """Return the rows of each group, numbered from 1; pairs of no group have 0."""
    return tuple((group == n).nonzero().squeeze(1) for n in range(1, int(group.max()) + 1))
