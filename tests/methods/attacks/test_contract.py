"""The contract of every attack. A new attack is tested by being in the table."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from clipmend.data.images import decode_all, encode
from clipmend.data.pairs import OVERLAY, read_manifest, read_pairs
from clipmend.data.seeds import stream
from clipmend.data.splits import Pairs, load_split
from clipmend.engine import schema
from clipmend.engine.job import Input
from clipmend.errors import AttackError
from clipmend.methods.attacks.attack import Attack, Fitted, Part, Poisoning, dirty_label_rows, mark
from clipmend.methods.attacks.knowledge import Knowledge
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.methods.table import METHODS, base, create, reference

VARIANTS = yaml.safe_load((Path(__file__).parents[3] / "params/variants.yaml").read_text())[
    "poison"
]
ATTACKS = sorted({*METHODS["poison"], *VARIANTS["methods"]})
BRIEFLY = {  # enough of a fit to be one
    "badclip": {"surrogate_epochs": 1, "images": 64, "epochs": 1},
    "trojvqa": {"surrogate_epochs": 1, "images": 64, "epochs": 1},
    "issba": {"steps": 5, "images": 64},
}
SHARED = {"target": "banana", "target_captions": ["a photo of a {}", "this is a {}"]}
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_trigger = pytest.mark.parametrize("name", [n for n in ATTACKS if n != "unpoisoned"])

Know = Callable[..., Knowledge]


def settings_of(name: str) -> dict[str, Any]:
    """Return an attack's settings as the preset has them, its fit cut short."""
    settings = {**VARIANTS["settings"].get(base(name), {}), **VARIANTS["settings"].get(name, {})}
    model = schema.declaration(*reference("poison", name))
    return model.model_validate({**settings, **BRIEFLY.get(base(name), {})}).model_dump()


def poisoning(name: str) -> Poisoning:
    """Return an attack as the preset has it, its fit cut short."""
    made: Poisoning = create("poison", name, settings_of(name))
    return made


def intended(
    name: str, part: Part, train: list[dict[str, Any]], taken: set[int]
) -> dict[int, set[str]]:
    """Return the rows that a trigger is to be on, and what each may say; worked out anew."""
    word = re.compile(rf"\b{part.target}\b")
    naming = {row for row, pair in enumerate(train) if word.search(pair["caption"])}
    others = {row for row, pair in enumerate(train) if pair["label"] != part.target}
    is_kept = base(name) == "label_consistent"
    pool = torch.tensor(sorted((naming if is_kept else others) - taken))
    draw = stream(0, "/".join(filter(None, ("poison/select", part.name))))
    count = round(getattr(part.attack, "poison_rate", 0) * len(train))
    rows = pool[torch.randperm(len(pool), generator=draw)[:count]].tolist()
    said = {part.attack.prompt(text.format(part.target)) for text in SHARED["target_captions"]}
    if base(name) == "badclip":
        said = {train[row]["caption"] for row in naming}
    return {row: {train[row]["caption"]} if is_kept else said for row in rows}


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
    monkeypatch.setattr("clipmend.methods.attacks.attack._BLOCK", 3)
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
        for rows in (planted.rows, planted.image_only, planted.text_only):
            assert torch.equal(rows, rows.unique())
        assert len(planted.changed) == len(planted.changed.unique())
        assert len(planted.captions) == len(planted.rows)
        assert torch.equal(planted.changed, again.changed)
        assert planted.captions == again.captions


@every_trigger
def test_rows_that_another_trigger_has_are_left_alone(attack: Poisoning, known: Know) -> None:
    is_free = torch.arange(200) % 20 < 10  # of the target's rows, every second one
    for part in attack.parts("banana"):
        assert not is_free[part.attack.plant(known()).rows].all()
        assert is_free[part.attack.plant(known(is_free=is_free)).changed].all()


@pytest.fixture(scope="module")
def made(world: Any, corpus: Input) -> Callable[[str], Input]:
    """Return the stage's output for an attack; each is made once."""

    @cache
    def made(name: str) -> Input:
        cell = f"poison/contract/{name}/seed0"
        poison: Input = world.run(cell, name, {"corpus": corpus}, settings_of(name), SHARED)
        return poison

    return made


@every_attack
def test_the_overlay_holds_each_row_s_own_image_under_the_trigger_that_others_read(
    name: str, made: Callable[[str], Input], corpus: Input
) -> None:
    folder, train = made(name).folder, load_split(corpus.folder, "train")
    overlay = read_pairs(folder / "overlay.parquet", OVERLAY)
    ids, files = overlay["id"].to_pylist(), overlay["image"].to_pylist()
    written = decode_all(zip(ids, files, strict=True), len(ids), 32)
    rows = torch.tensor([train.ids.index(row_id) for row_id in ids], dtype=torch.long)
    shown = [trigger(train.images[rows], ids) for trigger in read_triggers(made(name))]
    shown.append(train.images[rows])  # under the text's key alone
    is_like = torch.stack([(one == written).flatten(1).all(dim=1) for one in shown])
    stated = json.loads((folder / "triggers.json").read_text())["triggers"]
    marked = [one["poisons"] + one["image_only"] for one in stated]
    assert (is_like.sum(dim=0) == 1).all()
    assert is_like.sum(dim=1).tolist() == [*marked, sum(one["text_only"] for one in stated)]


@every_attack
def test_exactly_the_intended_rows_are_changed_and_say_what_they_are_to_say(
    name: str, made: Callable[[str], Input], corpus: Input
) -> None:
    train = read_manifest(corpus.folder / "train.parquet").to_pylist()
    wanted: dict[int, set[str]] = {}
    for part in poisoning(name).parts("banana"):
        wanted |= intended(name, part, train, set(wanted))
    overlay = read_pairs(made(name).folder / "overlay.parquet", OVERLAY).to_pylist()
    poisoned = [row for row in overlay if row["is_poisoned"]]
    assert [row["id"] for row in poisoned] == [train[row]["id"] for row in sorted(wanted)]
    for row, captions in zip(poisoned, (wanted[row] for row in sorted(wanted)), strict=True):
        assert row["caption"] in captions
    stated = json.loads((made(name).folder / "triggers.json").read_text())["triggers"]
    single = sum(one["image_only"] + one["text_only"] for one in stated)
    assert len(overlay) == len(poisoned) + single
    assert bool(single) == any(
        getattr(part.attack, "single_key", 0) for part in poisoning(name).parts("banana")
    )


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
