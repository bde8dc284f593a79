"""Pretraining: every objective in the table trains a victim."""

import csv
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clipmend.data.splits import load_split
from clipmend.engine.job import Input
from clipmend.errors import TrainingError
from clipmend.methods.attacks.attack import AttackContext
from clipmend.methods.attacks.badclip import BadCLIP
from clipmend.methods.attacks.surrogate import train_surrogate
from clipmend.methods.table import METHODS, create
from clipmend.metrics.curve import COLUMNS
from clipmend.model.clip import embed_images, load
from clipmend.stages import pretrain
from tests.conftest import World

TARGET = {"target": "banana", "target_captions": ["a photo of a {}"]}
MODEL = {"model": "scene_resnet", "pretrained": None}
SHORT = {"safeclip": {"in_modal_epochs": 1}}  # so that its last phase is reached


@pytest.fixture(scope="module")
def start(world: Any, corpus: Input) -> Input:
    """Return a clean model, trained briefly and otherwise as published."""
    inputs = {"corpus": corpus}
    clean = world.run("poison/start/unpoisoned/seed0", "unpoisoned", inputs, shared=TARGET)
    inputs = {"corpus": corpus, "poison": clean}
    cell = "pretrain/start/unpoisoned/mmcl/seed0"
    return world.run(cell, "mmcl", inputs, {"epochs": 2}, MODEL)


@pytest.mark.parametrize("objective", METHODS["pretrain"])
def test_an_objective_lowers_its_loss_and_keeps_the_shapes(
    world: Any, corpus: Input, poison: Input, objective: str
) -> None:
    inputs = {"corpus": corpus, "poison": poison}
    settings = {"epochs": 4, "batch_size": 64, "early_epoch": 2, **SHORT.get(objective, {})}
    cell = f"pretrain/contract/badnet/{objective}/seed0"
    made = world.run(cell, objective, inputs, settings=settings, shared=MODEL)
    rows = list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1 + settings["epochs"]
    assert float(rows[-1]["loss"]) < float(rows[1]["loss"])
    early, last = load(made.folder, "early.safetensors"), load(made.folder)
    shapes = [{name: value.shape for name, value in m.full_state().items()} for m in (early, last)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("objective", METHODS["pretrain"])
def test_a_run_killed_inside_an_epoch_resumes_to_the_same_weights(
    survives: Any, objective: str
) -> None:
    extra = {"safeclip": {"in_modal_epochs": 1}, "roclip": {"every": 2}}.get(objective, {})
    settings = {"epochs": 3, "batch_size": 8, "early_epoch": 1, **extra}
    step = random.Random(objective).randrange(9, 12)  # in the last epoch, where all phases are over
    assert survives(create("pretrain", objective, settings), step)


def test_the_curve_states_its_denominators(victim: Input) -> None:
    rows = list(csv.DictReader((victim.folder / "curve.csv").read_text().splitlines()))
    assert {row["n_clean"] for row in rows} == {"64"}
    assert all(int(row["n_triggered"]) < 64 for row in rows)


def test_the_same_inputs_train_the_same_bytes(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison}
    again = world.run(
        "pretrain/again/badnet/mmcl/seed0", "mmcl", inputs, victim.settings, shared=MODEL
    )
    for file in sorted(victim.folder.iterdir()):
        assert (again.folder / file.name).read_bytes() == file.read_bytes(), file.name


def damage(early: Path) -> None:
    early.write_bytes(early.read_bytes()[:-8])


@pytest.mark.parametrize(
    "harm",
    [
        Path.exists,
        lambda early: early.unlink(),
        damage,
        lambda early: early.unlink() or early.mkdir(),
        lambda early: early.with_name("fit.pt").unlink() or early.unlink() or early.mkdir(),
    ],
    ids=["calm", "removed", "cut", "folder", "anew"],
)
def test_a_run_killed_while_it_writes_its_results_ends_with_the_same_bytes(
    world: World, attacked: Any, victim: Input, monkeypatch: Any, harm: Any, request: Any
) -> None:
    cell = f"pretrain/{request.node.callspec.id}/badnet/mmcl/seed0"
    inputs = {role: attacked[role] for role in ("corpus", "poison")}

    def run() -> Input:
        shutil.rmtree(world.root / "results" / cell, ignore_errors=True)
        return world.run(cell, "mmcl", inputs, victim.settings)

    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(pretrain, "write_curve", lambda *_: 1 / 0)
        run()
    harm(world.root / "work" / cell / "early.safetensors")
    made = run()
    for file in sorted(victim.folder.iterdir()):
        assert (made.folder / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_settings_of_the_loop_reach_the_model(
    world: Any, corpus: Input, poison: Input, victim: Input
) -> None:
    """In chunks batch norm sees fewer images, and in bfloat16 all is rounded: both are noticed."""
    loop = {"chunk": 16, "precision": "bf16", "grad_checkpointing": True}
    inputs = {"corpus": corpus, "poison": poison}
    shared = {**MODEL, "loop": loop}
    cell = "pretrain/looped/badnet/mmcl/seed0"
    made = world.run(cell, "mmcl", inputs, victim.settings, shared=shared)
    rows = list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < float(rows[1]["loss"])
    plain, looped = load(victim.folder).full_state(), load(made.folder).full_state()
    assert not plain["visual.bn1.running_mean"].equal(looped["visual.bn1.running_mean"])


def test_an_attacker_who_knows_the_initial_model_has_its_exact_bytes(
    corpus: Input, start: Input
) -> None:
    clean = load(start.folder)
    train = load_split(corpus.folder, "train")
    context = AttackContext(
        ids=train.ids,
        captions=train.captions,
        labels=(None,) * len(train),
        load=train.take,
        target="banana",
        templates=("a {}",),
        image_size=32,
        seed=0,
    )
    attack = BadCLIP(surrogate_epochs=2)
    embeds = embed_images(clean, train.images)
    known = train_surrogate(replace(attack, known_start=True), context)
    assert embed_images(known, train.images).equal(embeds)
    assert not embed_images(train_surrogate(attack, context), train.images).equal(embeds)


def test_an_early_epoch_after_the_last_is_refused(world: Any, corpus: Input, poison: Input) -> None:
    with pytest.raises(TrainingError, match="early_epoch"):
        world.run(
            "pretrain/late/badnet/mmcl/seed0",
            "mmcl",
            {"corpus": corpus, "poison": poison},
            {"epochs": 1, "early_epoch": 3},
            MODEL,
        )


def test_a_victim_can_start_from_a_clean_model(
    world: Any, corpus: Input, poison: Input, start: Input
) -> None:
    inputs = {"corpus": corpus, "poison": poison, "start": start}
    still = {"epochs": 2, "start": "mmcl", "lr": 1e-9}
    victim = world.run("pretrain/tiny/badnet/mmcl@from_clean/seed0", "mmcl", inputs, still, MODEL)
    had, has = load(start.folder).full_state(), load(victim.folder).full_state()
    learnt = [name for name in had if had[name].is_floating_point() and "running" not in name]
    assert all(torch.allclose(had[name], has[name], atol=1e-5) for name in learnt)
