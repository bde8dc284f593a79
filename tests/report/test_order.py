"""One order, and it does not depend on the order in which anything was named."""

from clipmend.engine.cell import Place
from clipmend.report.order import attack_order, method_order, objective_order, titles


def victim(corpus="scenes", seed=0):
    return Place("pretrain", corpus, "badnet", "mmcl", seed)


def test_the_default_repairs_come_first_then_the_alphabet() -> None:
    names = "pud ubt@oracle abl ubt@x cleanclip@lr1e-4 ubt cleanclip ubt@random none ft"
    assert " ".join(sorted(names.split(), key=method_order)) == (
        "none ft cleanclip cleanclip@lr1e-4 ubt ubt@random ubt@oracle ubt@x abl pud"
    )


def test_the_unpoisoned_attack_comes_first() -> None:
    names = ["blended", "unpoisoned", "badnet", "badclip"]
    assert sorted(names, key=attack_order) == ["unpoisoned", "badclip", "badnet", "blended"]


def test_a_title_says_only_what_tells_victims_apart() -> None:
    one, other, photo = victim(), victim(seed=1), victim("photos")
    assert titles([one]) == {one: "badnet, mmcl"}
    assert titles([one, other])[other] == "badnet, mmcl, seed 1"
    assert titles([one, photo])[photo] == "photos, badnet, mmcl"


def test_objectives_that_defend_come_after_those_that_do_not() -> None:
    names = "siglip safeclip mmcl_ssl roclip mmcl@from_clean mmcl another"
    assert " ".join(sorted(names.split(), key=objective_order)) == (
        "mmcl mmcl@from_clean mmcl_ssl siglip roclip safeclip another"
    )
