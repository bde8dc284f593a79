"""The table of methods: names, variants, and the answer to an unknown name."""

import pytest

from clipmend.engine import schema
from clipmend.errors import UnknownNameError
from clipmend.methods import table


def test_a_variant_has_the_class_of_its_base() -> None:
    assert table.reference("unlearn", "ubt@random") == table.reference("unlearn", "ubt")


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown poison method 'badnt'\. Did you mean 'badn"
    ):
        table.reference("poison", "badnt")


def test_no_name_is_in_both_unlearn_and_baselines() -> None:
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


def test_lists_of_json_become_tuples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "reference", lambda *_: ("builtins", "dict"))
    assert table.create("detect", "d", {"a": [1, [2]]}) == {"a": (1, (2,))}
