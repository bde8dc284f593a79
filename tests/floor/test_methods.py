"""The one table: names, variants, and what an unknown one is answered with."""

import pytest

from clipmend import code, methods
from clipmend.errors import UnknownNameError


def test_a_variant_is_its_base() -> None:
    assert methods.reference("unlearn", "ubt@random") == methods.reference("unlearn", "ubt")


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown poison method 'badnt'\. Did you mean 'badn"
    ):
        methods.reference("poison", "badnt")


def test_a_name_means_one_repair_only() -> None:
    assert not methods.METHODS["unlearn"].keys() & methods.METHODS["baselines"].keys()


@pytest.mark.parametrize(
    ("stage", "name"),
    [(stage, name) for stage in methods.METHODS for name in methods.METHODS[stage]],
)
def test_the_settings_of_every_method_can_be_read_without_importing_it(
    stage: str, name: str
) -> None:
    module, cls = methods.reference(stage, name)
    assert code.declaration(module, cls).__name__ == cls


def test_lists_become_tuples_again_on_their_way_through_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(methods.METHODS, "detect", {"d": "builtins:dict"})
    assert methods.create("detect", "d", {"a": [1, [2]]}) == {"a": (1, (2,))}
