"""The one table: names, variants, and what an unknown one is answered with."""

import pytest

from clipmend.engine import schema
from clipmend.errors import UnknownNameError
from clipmend.methods import table


def test_a_variant_is_its_base() -> None:
    assert table.reference("unlearn", "ubt@random") == table.reference("unlearn", "ubt")


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown poison method 'badnt'\. Did you mean 'badn"
    ):
        table.reference("poison", "badnt")


def test_a_name_means_one_repair_only() -> None:
    assert not table.METHODS["unlearn"].keys() & table.METHODS["baselines"].keys()


@pytest.mark.parametrize(
    ("stage", "name"),
    [(stage, name) for stage in table.METHODS for name in table.METHODS[stage]],
)
def test_the_settings_of_every_method_can_be_read_without_importing_it(
    stage: str, name: str
) -> None:
    module, cls = table.reference(stage, name)
    assert schema.declaration(module, cls).__name__ == cls


def test_lists_become_tuples_again_on_their_way_through_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "reference", lambda *_: ("builtins", "dict"))
    assert table.create("detect", "d", {"a": [1, [2]]}) == {"a": (1, (2,))}
