"""The contract of every attack. A new attack is tested by being in the table."""

import pytest
import torch

from clipmend.attacks.attack import Attack, dirty_label_rows, mark
from clipmend.corpus.images import decode_all, encode
from clipmend.errors import AttackError
from clipmend.methods import METHODS, create
from clipmend.seeds import stream

every_attack = pytest.mark.parametrize("name", METHODS["poison"])
every_trigger = pytest.mark.parametrize("name", [n for n in METHODS["poison"] if n != "unpoisoned"])
IDS = [f"row-{row}" for row in range(8)]
IS_TARGET = torch.arange(200) % 20 == 0


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.fixture
def attack(name: str) -> Attack:
    made: Attack = create("poison", name, {})
    return made


@every_attack
def test_same_image_and_id_same_mark(attack: Attack, images: torch.Tensor) -> None:
    fitted = attack.fit(32, seed=0)
    before = images.clone()
    once = mark(attack, images, IDS, fitted)
    assert torch.equal(once, mark(attack, images, IDS, fitted))
    assert torch.equal(images, before)
    alone = mark(attack, images[3:4], IDS[3:4], fitted)
    assert torch.equal(alone[0], once[3])


@every_trigger
def test_a_trigger_changes_every_image(attack: Attack, images: torch.Tensor) -> None:
    triggered = mark(attack, images, IDS, attack.fit(32, seed=0))
    assert (triggered != images).flatten(1).any(dim=1).all()


@every_attack
def test_a_triggered_image_stays_in_range(attack: Attack, images: torch.Tensor) -> None:
    triggered = attack.apply(images.float() / 255, IDS, attack.fit(32, seed=0))
    assert triggered.shape == images.shape
    assert triggered.min() >= 0
    assert triggered.max() <= 1


@every_attack
def test_a_triggered_image_survives_its_file(attack: Attack, images: torch.Tensor) -> None:
    triggered = mark(attack, images, IDS, attack.fit(32, seed=0))
    files = [(row, encode(image)) for row, image in zip(IDS, triggered, strict=True)]
    assert torch.equal(decode_all(files, len(triggered), 32), triggered)


@every_attack
def test_one_seed_is_one_trigger(attack: Attack) -> None:
    one, two = attack.fit(32, seed=0), attack.fit(32, seed=0)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@every_trigger
def test_another_seed_is_another_trigger(attack: Attack) -> None:
    one, other = attack.fit(32, seed=0), attack.fit(32, seed=1)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every_attack
def test_rows_are_distinct_ascending_and_the_same_for_the_same_stream(attack: Attack) -> None:
    rows = attack.rows(IS_TARGET, stream(0, "poison/select"))
    assert torch.equal(rows, rows.unique())
    assert torch.equal(rows, attack.rows(IS_TARGET, stream(0, "poison/select")))


def test_dirty_label_rows_are_the_rate_of_all_and_none_of_the_target() -> None:
    rows = dirty_label_rows(IS_TARGET, 0.1, stream(0, "poison/select"))
    assert len(rows) == 20
    assert not IS_TARGET[rows].any()


@pytest.mark.parametrize("rate", [0.001, 0.99])
def test_a_rate_that_selects_nothing_or_too_much_is_refused(rate: float) -> None:
    with pytest.raises(AttackError, match="between 1 and 190"):
        dirty_label_rows(IS_TARGET, rate, stream(0, "poison/select"))


def test_a_patch_larger_than_the_image_is_refused() -> None:
    attack: Attack = create("poison", "badnet", {"size": 40})
    with pytest.raises(AttackError, match="does not fit"):
        attack.fit(32, seed=0)
