"""The contract of every attack. A new attack is tested by being in the table."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from clipmend import code
from clipmend.attacks.attack import Attack, Fitted, Poisoning, dirty_label_rows, mark
from clipmend.attacks.knowledge import Knowledge
from clipmend.corpus.images import decode_all, encode
from clipmend.corpus.splits import Pairs
from clipmend.errors import AttackError
from clipmend.methods import METHODS, base, create, reference

VARIANTS = yaml.safe_load((Path(__file__).parents[2] / "params/variants.yaml").read_text())[
    "poison"
]
ATTACKS = sorted({*METHODS["poison"], *VARIANTS["methods"]})
BRIEFLY = {  # enough of a fit to be one
    "badclip": {"surrogate_epochs": 1, "images": 64, "epochs": 1},
    "trojvqa": {"surrogate_epochs": 1, "images": 64, "epochs": 1},
    "issba": {"steps": 2, "images": 64, "bound": 255.0},
}
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_trigger = pytest.mark.parametrize("name", [n for n in ATTACKS if n != "unpoisoned"])

Know = Callable[..., Knowledge]


def poisoning(name: str) -> Poisoning:
    """Return an attack as the preset has it, its fit cut short."""
    settings = {**VARIANTS["settings"].get(base(name), {}), **VARIANTS["settings"].get(name, {})}
    model = code.declaration(*reference("poison", name))
    stated = model.model_validate({**settings, **BRIEFLY.get(base(name), {})})
    made: Poisoning = create("poison", name, stated.model_dump(mode="json"))
    return made


@pytest.fixture
def attack(name: str) -> Poisoning:
    return poisoning(name)


@pytest.fixture
def eight(known: Know) -> Pairs:
    return known().pairs(torch.arange(8))


@pytest.fixture(scope="module")
def fit(known: Know) -> Callable[[str, int], list[tuple[Attack, Fitted]]]:
    """Return every trigger of an attack with its tensors; each is fitted once."""

    @cache
    def made(name: str, seed: int) -> list[tuple[Attack, Fitted]]:
        return [
            (part.attack, part.attack.fit(known(target=part.target, part=part.name, seed=seed)))
            for part in poisoning(name).parts("banana")
        ]

    return made


@pytest.fixture
def fitted(name: str, fit: Any) -> list[tuple[Attack, Fitted]]:
    found: list[tuple[Attack, Fitted]] = fit(name, 0)
    return found


@every_attack
def test_same_image_and_id_same_mark(fitted: list[tuple[Attack, Fitted]], eight: Pairs) -> None:
    for attack, tensors in fitted:
        before = eight.images.clone()
        once = mark(attack, eight.images, eight.ids, tensors)
        assert torch.equal(once, mark(attack, eight.images, eight.ids, tensors))
        assert torch.equal(eight.images, before)
        alone = mark(attack, eight.images[3:4], eight.ids[3:4], tensors)
        assert torch.equal(alone[0], once[3])


@every_attack
def test_blocks_of_images_do_not_show(
    fitted: list[tuple[Attack, Fitted]], eight: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [mark(attack, eight.images, eight.ids, tensors) for attack, tensors in fitted]
    monkeypatch.setattr("clipmend.attacks.attack._BLOCK", 3)
    for (attack, tensors), marked in zip(fitted, whole, strict=True):
        assert torch.equal(mark(attack, eight.images, eight.ids, tensors), marked)


@every_trigger
def test_a_trigger_changes_every_image(fitted: list[tuple[Attack, Fitted]], eight: Pairs) -> None:
    for attack, tensors in fitted:
        triggered = mark(attack, eight.images, eight.ids, tensors)
        assert (triggered != eight.images).flatten(1).any(dim=1).all()


@every_attack
def test_a_triggered_image_stays_in_range(
    fitted: list[tuple[Attack, Fitted]], eight: Pairs
) -> None:
    for attack, tensors in fitted:
        triggered = attack.apply(eight.images.float() / 255, eight.ids, tensors)
        assert triggered.shape == eight.images.shape
        assert triggered.min() >= 0
        assert triggered.max() <= 1


@every_attack
def test_a_triggered_image_survives_its_file(
    fitted: list[tuple[Attack, Fitted]], eight: Pairs
) -> None:
    for attack, tensors in fitted:
        triggered = mark(attack, eight.images, eight.ids, tensors)
        files = [(row, encode(image)) for row, image in zip(eight.ids, triggered, strict=True)]
        assert torch.equal(decode_all(files, len(triggered), 32), triggered)


@every_attack
def test_one_seed_is_one_trigger(
    attack: Poisoning, fitted: list[tuple[Attack, Fitted]], known: Know
) -> None:
    for part, (_, one) in zip(attack.parts("banana"), fitted, strict=True):
        again = part.attack.fit(known(target=part.target, part=part.name))
        assert one.keys() == again.keys()
        assert all(torch.equal(one[name], again[name]) for name in one)


@pytest.mark.parametrize("name", [name for name in METHODS["poison"] if name != "unpoisoned"])
def test_another_seed_is_another_trigger_if_any_of_it_is_drawn(name: str, fit: Any) -> None:
    for (_, one), (_, other) in zip(fit(name, 0), fit(name, 1), strict=True):
        assert not one or any(not torch.equal(one[key], other[key]) for key in one)


@every_attack
def test_rows_are_distinct_ascending_and_the_same_for_the_same_seed(
    attack: Poisoning, known: Know
) -> None:
    for part in attack.parts("banana"):
        planted, again = part.attack.plant(known()), part.attack.plant(known())
        assert torch.equal(planted.rows, planted.rows.unique())
        assert len(planted.captions) == len(planted.rows)
        assert torch.equal(planted.rows, again.rows)
        assert planted.captions == again.captions


@every_trigger
def test_rows_that_another_trigger_has_are_left_alone(attack: Poisoning, known: Know) -> None:
    is_free = torch.arange(200) % 20 < 11
    for part in attack.parts("banana"):
        assert is_free[part.attack.plant(known(is_free=is_free)).rows].all()


def test_dirty_label_rows_are_the_rate_of_all_and_none_of_the_target(known: Know) -> None:
    knowledge = known()
    rows = dirty_label_rows(knowledge, 0.1)
    assert len(rows) == 20
    assert not knowledge.is_target[rows].any()


@pytest.mark.parametrize("rate", [0.001, 0.99])
def test_a_rate_that_selects_nothing_or_too_much_is_refused(known: Know, rate: float) -> None:
    with pytest.raises(AttackError, match="between 1 and 180"):
        dirty_label_rows(known(), rate)


def test_a_patch_larger_than_the_image_is_refused(known: Know) -> None:
    attack: Attack = create("poison", "badnet", {"size": 40})
    with pytest.raises(AttackError, match="does not fit"):
        attack.fit(known())
