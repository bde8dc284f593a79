"""Samples by id, and the order of rows in a pass over a split."""

import pytest
import torch

from clipmend.data import sampling
from clipmend.data.row_groups import GROUP
from clipmend.data.sampling import sample, seeded_order, shuffled

IDS = [f"row-{number}" for number in range(100)]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_order_of_two_ids_does_not_depend_on_the_other_ids() -> None:
    order = seeded_order(IDS, 3, "test")
    assert sorted(order) == sorted(IDS)
    assert seeded_order(reversed(IDS[:10]), 3, "test") == [i for i in order if i in IDS[:10]]
    assert seeded_order(IDS, 4, "test") != order != seeded_order(IDS, 3, "other")


def test_a_sample_has_the_same_ids_for_every_order_of_the_rows() -> None:
    rows, backward = sample(IDS, 20), sample(IDS[::-1], 20)
    assert len(rows) == 20
    assert torch.equal(rows, rows.sort().values)
    assert {IDS[row] for row in rows.tolist()} == {IDS[::-1][row] for row in backward.tolist()}
    assert set(rows.tolist()) < set(sample(IDS, 30).tolist())


def test_a_sample_of_rows_sorted_by_class_has_all_classes() -> None:
    label = torch.arange(100) // 25
    assert label[sample(IDS, 40)].unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [100, 1000])
def test_a_sample_of_at_least_as_many_rows_has_all_rows_in_order(count: int) -> None:
    assert torch.equal(sample(IDS, count), torch.arange(100))


@pytest.mark.parametrize("count", [1, 8000, 32768])
def test_few_rows_have_the_order_of_one_permutation(count: int) -> None:
    assert torch.equal(shuffled(count, generator()), torch.randperm(count, generator=generator()))


@pytest.mark.parametrize("count", [32769, 40_001])
def test_a_pass_has_every_row_once(count: int) -> None:
    assert torch.equal(shuffled(count, generator()).sort().values, torch.arange(count))


def test_a_buffer_mixes_all_rows_of_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_GROUPS", 4)
    groups = shuffled(40 * GROUP, generator()) // GROUP
    buffers = [set(buffer.tolist()) for buffer in groups.split(4 * GROUP)]
    assert all(len(buffer) == 4 for buffer in buffers)
    assert set.union(*buffers) == set(range(40))
    assert buffers[0] != {0, 1, 2, 3}
    assert (groups.diff() != 0).float().mean() > 0.7  # 3 of 4 neighbors are of another group
