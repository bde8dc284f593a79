"""The order of a pass: one permutation of few rows, a shuffle buffer over many."""

import pytest
import torch

from clipmend.data import sampling
from clipmend.data.row_groups import GROUP
from clipmend.data.sampling import shuffled


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("count", [1, 8000, 32768])
def test_few_rows_are_in_the_order_of_one_permutation(count: int) -> None:
    assert torch.equal(shuffled(count, generator()), torch.randperm(count, generator=generator()))


@pytest.mark.parametrize("count", [32769, 40_001])
def test_every_row_comes_once(count: int) -> None:
    assert torch.equal(shuffled(count, generator()).sort().values, torch.arange(count))


def test_a_group_s_rows_come_within_one_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_GROUPS", 4)
    rows = shuffled(40 * GROUP, generator())
    buffers = [set((part // GROUP).tolist()) for part in rows.split(4 * GROUP)]
    assert all(len(groups) == 4 for groups in buffers)
    assert set.union(*buffers) == set(range(40))


def test_rows_of_a_buffer_are_mixed_and_so_are_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_GROUPS", 4)
    groups = shuffled(40 * GROUP, generator()) // GROUP
    assert (groups.diff() != 0).float().mean() > 0.7  # of 4 groups, 3 of 4 neighbors are another
    assert groups[: 4 * GROUP].unique().tolist() != [0, 1, 2, 3]
