"""The table of methods: names and variants."""

from clipmend.methods import table


def test_a_variant_has_the_class_of_its_base() -> None:
    assert table.reference("unlearn", "ubt@random") == table.reference("unlearn", "ubt")


def test_no_name_is_in_both_unlearn_and_baselines() -> None:
    assert not table.METHODS["unlearn"].keys() & table.METHODS["baselines"].keys()


def test_lists_of_json_become_tuples(monkeypatch) -> None:
    monkeypatch.setattr(table, "reference", lambda *_: ("builtins", "dict"))
    assert table.create("detect", "d", {"a": [1, [2]]}) == {"a": (1, (2,))}
