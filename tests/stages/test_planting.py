"""What is planted, and when: by labels where there are any, and before anything is fitted."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clipmend.data.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Planted
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.planting import plants

CAPTIONS = ("a ripe Banana.", "bananas", "a car", "a banana car", "a tree", "a car")


@dataclass(frozen=True)
class Slow(BadNet):
    """A patch whose fit nobody wants to wait for in vain."""

    def fit(self, knowledge: Knowledge) -> dict[str, Tensor]:
        raise AssertionError(knowledge)


@dataclass(frozen=True)
class Telling(BadNet):
    """Plants on every pair that is the target's."""

    def plant(self, knowledge: Knowledge) -> Planted:
        rows = knowledge.is_target.nonzero().squeeze(1)
        return Planted(rows, ("",) * len(rows))


def no_pairs(rows: Tensor) -> Pairs:
    raise AssertionError(rows)


@pytest.fixture
def knowledge() -> Knowledge:
    return Knowledge(
        ids=tuple(f"row-{row}" for row in range(len(CAPTIONS))),
        captions=CAPTIONS,
        is_target=torch.zeros(len(CAPTIONS), dtype=torch.bool),
        is_free=torch.ones(len(CAPTIONS), dtype=torch.bool),
        pairs=no_pairs,
        target="banana",
        templates=("a {}",),
        image_size=32,
        seed=0,
    )


def test_what_cannot_be_planted_is_refused_before_anything_is_fitted(knowledge: Knowledge) -> None:
    labels = ["car"] * len(CAPTIONS)
    with pytest.raises(AttackError, match="selects 0 of 6"):
        list(plants(Slow(poison_rate=0.01), "banana", labels, knowledge))


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ([None] * 6, [0, 3]),
        (["banana", "banana", "car", "car", "tree", "car"], [0, 1]),
        (["car", "banana", None, None, None, None], [1, 3]),
    ],
)
def test_a_pair_without_a_label_is_the_target_s_if_its_caption_names_it(
    knowledge: Knowledge, labels: list[str | None], rows: list[int]
) -> None:
    (plant,) = plants(Telling(), "banana", labels, knowledge)
    assert plant.planted.rows.tolist() == rows
