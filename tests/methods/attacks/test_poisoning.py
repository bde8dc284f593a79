"""The order of poisoning: rows are selected before a trigger is fitted."""

from dataclasses import dataclass

import pytest
from torch import Tensor

from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import AttackContext
from clipmend.methods.attacks.badnet import BadNet
from clipmend.methods.attacks.poisoning import poison


@dataclass(frozen=True)
class Slow(BadNet):
    """A patch with a long fit."""

    def fit(self, context: AttackContext) -> dict[str, Tensor]:
        raise AssertionError(context)


def test_an_attack_without_pairs_to_poison_is_refused_before_a_fit(context: AttackContext) -> None:
    with pytest.raises(AttackError, match="selects 0 of 200"):
        list(poison("slow", Slow(poison_rate=0.001), context))
