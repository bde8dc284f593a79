"""The contract of every attack. An attack in the table is tested here without further lines."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from clipmend.data.images import decode_all, encode
from clipmend.data.pairs import OVERLAY, read_manifest, read_pairs
from clipmend.data.splits import Pairs, load_split
from clipmend.engine import schema
from clipmend.engine.job import Input
from clipmend.methods.attacks.attack import Attack, AttackContext, SingleTrigger, TriggerTensors
from clipmend.methods.attacks.trigger import read_triggers
from clipmend.methods.table import METHODS, base, create, reference

VARIANTS = yaml.safe_load((Path(__file__).parents[3] / "params/variants.yaml").read_text())[
    "poison"
]
ATTACKS = sorted({*METHODS["poison"], *VARIANTS["methods"]})
BRIEF = {"surrogate_epochs": 1, "images": 64, "epochs": 1, "steps": 5}  # settings of a long fit
SHARED = {"target": "banana", "target_captions": ["a photo of a {}", "this is a {}"]}
every_attack = pytest.mark.parametrize("name", ATTACKS)

Fits = list[tuple[SingleTrigger, TriggerTensors]]


def settings_of(name: str) -> dict[str, Any]:
    """Return an attack's settings as in the preset, with a short fit."""
    model = schema.declaration(*reference("poison", name))
    brief = {setting: BRIEF[setting] for setting in BRIEF if setting in model.model_fields}
    preset = {**VARIANTS["settings"].get(base(name), {}), **VARIANTS["settings"].get(name, {})}
    return model.model_validate({**preset, **brief}).model_dump()


@pytest.fixture
def attack(name: str) -> Attack:
    created: Attack = create("poison", name, settings_of(name))
    return created


@pytest.fixture(scope="module")
def fit(make_context: Callable[..., AttackContext]) -> Callable[[str, int], Fits]:
    """Return a function that fits every trigger of an attack, once for each seed."""

    @cache
    def fits(name: str, seed: int) -> Fits:
        context, attack = make_context(seed=seed), create("poison", name, settings_of(name))
        return [
            (spec.attack, spec.attack.fit(replace(context, target=spec.target, part=spec.part)))
            for spec in attack.specs("banana")
        ]

    return fits


@pytest.fixture
def fits(name: str, fit: Callable[[str, int], Fits]) -> Fits:
    return fit(name, 0)


@every_attack
def test_same_image_and_id_same_mark(fits: Fits, eight: Pairs) -> None:
    before = eight.images.clone()
    for attack, tensors in fits:
        marked = attack.mark(eight.images, eight.ids, tensors)
        assert torch.equal(marked, attack.mark(eight.images, eight.ids, tensors))
        alone = attack.mark(eight.images[3:4], eight.ids[3:4], tensors)
        assert torch.equal(alone[0], marked[3])
    assert torch.equal(eight.images, before)


@every_attack
def test_blocks_of_images_do_not_show(
    fits: Fits, eight: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = [attack.mark(eight.images, eight.ids, tensors) for attack, tensors in fits]
    monkeypatch.setattr("clipmend.methods.attacks.attack._BLOCK", 3)
    for (attack, tensors), marked in zip(fits, at_once, strict=True):
        assert torch.equal(attack.mark(eight.images, eight.ids, tensors), marked)


@every_attack
def test_a_trigger_that_poisons_changes_every_image(
    fits: Fits, eight: Pairs, context: AttackContext
) -> None:
    for attack, tensors in fits:
        is_changed = attack.mark(eight.images, eight.ids, tensors) != eight.images
        poisons = len(attack.select(context).rows)
        assert is_changed.flatten(1).any(dim=1).all() == (poisons > 0)


@every_attack
def test_a_triggered_image_stays_in_range(fits: Fits, eight: Pairs) -> None:
    for attack, tensors in fits:
        triggered = attack.apply(eight.images.float() / 255, eight.ids, tensors)
        assert triggered.shape == eight.images.shape
        assert triggered.min() >= 0
        assert triggered.max() <= 1


@every_attack
def test_a_triggered_image_survives_its_file(fits: Fits, eight: Pairs) -> None:
    for attack, tensors in fits:
        triggered = attack.mark(eight.images, eight.ids, tensors)
        files = [(row, encode(image)) for row, image in zip(eight.ids, triggered, strict=True)]
        assert torch.equal(decode_all(files, len(triggered), 32), triggered)


@every_attack
def test_one_seed_is_one_trigger(attack: Attack, fits: Fits, context: AttackContext) -> None:
    for spec, (_, tensors) in zip(attack.specs("banana"), fits, strict=True):
        again = spec.attack.fit(replace(context, target=spec.target, part=spec.part))
        assert tensors.keys() == again.keys()
        assert all(torch.equal(tensors[name], again[name]) for name in tensors)


@pytest.mark.parametrize("name", METHODS["poison"])
def test_another_seed_is_another_trigger_if_any_of_it_is_random(
    name: str, fit: Callable[[str, int], Fits]
) -> None:
    for (_, tensors), (_, other) in zip(fit(name, 0), fit(name, 1), strict=True):
        assert not tensors or any(not torch.equal(tensors[key], other[key]) for key in tensors)


@every_attack
def test_rows_are_distinct_ascending_and_the_same_for_the_same_seed(
    attack: Attack, context: AttackContext
) -> None:
    for spec in attack.specs("banana"):
        poisoned, again = spec.attack.select(context), spec.attack.select(context)
        for rows in (poisoned.rows, poisoned.image_only, poisoned.text_only):
            assert torch.equal(rows, rows.unique())
        assert len(poisoned.changed) == len(poisoned.changed.unique())
        assert torch.equal(poisoned.changed, again.changed)
        assert poisoned.captions == again.captions


@every_attack
def test_the_poison_rate_is_met_and_every_poisoned_caption_names_the_target(
    attack: Attack, context: AttackContext
) -> None:
    for spec in attack.specs("banana"):
        poisoned = spec.attack.select(context)
        assert len(poisoned.rows) == round(getattr(attack, "poison_rate", 0) * 200)
        assert len(poisoned.captions) == len(poisoned.rows)
        assert all("banana" in caption for caption in poisoned.captions)


@every_attack
def test_rows_that_another_trigger_has_are_left_alone(
    attack: Attack, context: AttackContext
) -> None:
    taken = (torch.arange(200) % 20 >= 10).nonzero().squeeze(1)  # half of the target's rows, too
    for spec in attack.specs("banana"):
        rows = spec.attack.select(context).rows
        assert torch.isin(rows, taken).any() == (len(rows) > 0)
        others = spec.attack.select(replace(context, taken=taken)).changed
        assert not torch.isin(others, taken).any()


@pytest.fixture(scope="module")
def cell(world: Any, corpus: Input) -> Callable[[str], Input]:
    """Return a function that runs the stage for an attack, once."""

    @cache
    def run(name: str) -> Input:
        place = f"poison/contract/{name}/seed0"
        poison: Input = world.run(place, name, {"corpus": corpus}, settings_of(name), SHARED)
        return poison

    return run


@every_attack
def test_the_overlay_holds_each_row_s_own_image_under_the_trigger_that_others_read(
    name: str, cell: Callable[[str], Input], corpus: Input
) -> None:
    folder, train = cell(name).folder, load_split(corpus.folder, "train")
    overlay = read_pairs(folder / "overlay.parquet", OVERLAY)
    ids, files = overlay["id"].to_pylist(), overlay["image"].to_pylist()
    written = decode_all(zip(ids, files, strict=True), len(ids), 32)
    rows = torch.tensor([train.ids.index(row_id) for row_id in ids], dtype=torch.long)
    expected = [trigger(train.images[rows], ids) for trigger in read_triggers(cell(name))]
    expected.append(train.images[rows])  # of rows with the text trigger alone
    is_equal = torch.stack([(images == written).flatten(1).all(dim=1) for images in expected])
    entries = json.loads((folder / "triggers.json").read_text())["triggers"]
    marked = [entry["poisons"] + entry["image_only"] for entry in entries]
    assert (is_equal.sum(dim=0) == 1).all()
    assert is_equal.sum(dim=1).tolist() == [*marked, sum(entry["text_only"] for entry in entries)]


@every_attack
def test_the_overlay_holds_exactly_the_rows_and_captions_that_the_rules_select(
    name: str, attack: Attack, cell: Callable[[str], Input], corpus: Input, context: AttackContext
) -> None:
    train = read_manifest(corpus.folder / "train.parquet")
    ids, captions, labels = (tuple(train[key].to_pylist()) for key in ("id", "caption", "label"))
    context = replace(
        context,
        ids=ids,
        captions=captions,
        labels=labels,
        templates=tuple(SHARED["target_captions"]),
    )
    expected: dict[int, tuple[str, bool]] = {}  # row -> its caption, whether it is poisoned
    for spec in attack.specs("banana"):
        taken = torch.tensor(list(expected), dtype=torch.long)
        own = replace(context, target=spec.target, part=spec.part, taken=taken)
        poisoned = spec.attack.select(own)
        said = dict(zip(poisoned.rows.tolist(), poisoned.captions, strict=True))
        expected |= {row: (caption, True) for row, caption in said.items()}
        expected |= {row: (captions[row], False) for row in poisoned.image_only.tolist()}
        for row in poisoned.text_only.tolist():
            expected[row] = spec.attack.prompt(captions[row]), False
    overlay = read_pairs(cell(name).folder / "overlay.parquet", OVERLAY).to_pylist()
    assert [row["id"] for row in overlay] == [ids[row] for row in sorted(expected)]
    for row, entry in zip(sorted(expected), overlay, strict=True):
        assert (entry["caption"], entry["is_poisoned"]) == expected[row]
        assert (entry["original_caption"], entry["label"]) == (captions[row], labels[row])
