"""Samples by id: of all classes however the rows stand, and always the same."""

import pytest
import torch

from clipmend.data.sampling import sample, seeded_order

IDS = [f"row-{number}" for number in range(100)]


def test_the_order_of_two_ids_does_not_depend_on_the_others() -> None:
    order = seeded_order(IDS, 3, "test")
    assert sorted(order) == sorted(IDS)
    assert seeded_order(reversed(IDS[:10]), 3, "test") == [one for one in order if one in IDS[:10]]
    assert seeded_order(IDS, 4, "test") != order != seeded_order(IDS, 3, "other")


def test_a_sample_is_the_same_ids_in_whatever_order_the_rows_stand() -> None:
    rows, back = sample(IDS, 20), sample(IDS[::-1], 20)
    assert len(rows) == 20
    assert torch.equal(rows, rows.sort().values)
    assert {IDS[row] for row in rows.tolist()} == {IDS[::-1][row] for row in back.tolist()}
    assert set(rows.tolist()) < set(sample(IDS, 30).tolist())


def test_a_sample_of_rows_that_stand_class_by_class_has_all_classes() -> None:
    label = torch.arange(100) // 25
    assert label[sample(IDS, 40)].unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [100, 1000])
def test_a_sample_of_no_fewer_rows_is_all_of_them_in_their_order(count: int) -> None:
    assert torch.equal(sample(IDS, count), torch.arange(100))
