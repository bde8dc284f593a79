"""A world small enough to train in a second: a drawn corpus, an attack, a victim."""

import csv
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from clipmend.engine.job import Input, Job
from clipmend.engine.runner import CORES
from clipmend.methods import table
from clipmend.model import arithmetic

arithmetic.prepare("portable")  # before a test imports torch; jobs have their own processes

TARGET = {"target": "banana", "target_captions": ["a photo of a {}", "this is a {}"]}
MODEL = {"model": "scene_resnet", "pretrained": None}
CURVE_IMAGES = {"curve_epochs": 10, "curve_images": 64}
EVALUATE = {
    "confidence": 0.95,
    "adversarial": {"images": 16, "steps": 2, "epsilons": [2], "ensemble": False},
}

SHARED = {  # what a stage has where a test gives nothing else
    "poison": TARGET,
    "pretrain": MODEL,
    "unlearn": CURVE_IMAGES,
    "baselines": CURVE_IMAGES,
    "evaluate": EVALUATE,
}


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without a scheduler's number of cores; what a job of this process sets ends with it."""
    monkeypatch.setenv(CORES, "1")  # so that the end of the test restores it
    monkeypatch.delenv(CORES)


@dataclass(frozen=True)
class World:
    """Runs stages as the runner does, without a plan."""

    root: Path

    def run(
        self,
        cell: str,
        method: str,
        inputs: Mapping[str, Input] = {},
        settings: Mapping[str, Any] = {},
        shared: Mapping[str, Any] = {},
    ) -> Input:
        """Make a cell and return it as an input of others."""
        stage = cell.partition("/")[0]
        shared = shared or SHARED.get(stage, {})
        seed = None if stage == "download" else 0
        folder, work = self.root / "results" / cell, self.root / "work" / cell
        folder.mkdir(parents=True)
        work.mkdir(parents=True, exist_ok=True)  # a killed run left its checkpoint there
        described = {"stage": stage, "method": method, "seed": seed}
        described |= {"settings": settings, "shared": shared}
        job = Job(cell, **described, device="cpu", inputs=inputs, out=folder, work=work)
        for module in table.modules(stage, method, shared):
            import_module(module).run(job)
        return Input(cell, folder, **described)

    def curve(self, made: Input) -> list[dict[str, str]]:
        """Return the rows of the curve of a victim or a repair."""
        return list(csv.DictReader((made.folder / "curve.csv").read_text().splitlines()))


@pytest.fixture
def shard() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Return a writer of webdataset shards, from the members' names and contents."""

    def shard(path: Path, members: Mapping[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
        return path

    return shard


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def corpus(world: World) -> Input:
    sizes = {"train": 256, "trusted": 64, "val": 64, "test": 64}
    return world.run("download/tiny", "scenes", settings=sizes)


@pytest.fixture(scope="session")
def poison(world: World, corpus: Input) -> Input:
    return world.run("poison/tiny/badnet/seed0", "badnet", {"corpus": corpus}, {"poison_rate": 0.1})


@pytest.fixture(scope="session")
def victim(world: World, corpus: Input, poison: Input) -> Input:
    settings = {"epochs": 3, "batch_size": 64, "early_epoch": 1}
    inputs = {"corpus": corpus, "poison": poison}
    return world.run("pretrain/tiny/badnet/mmcl/seed0", "mmcl", inputs, settings)


@pytest.fixture(scope="session")
def attacked(corpus: Input, poison: Input, victim: Input) -> dict[str, Input]:
    """Return what a detector reads."""
    return {"corpus": corpus, "poison": poison, "victim": victim}


@pytest.fixture(scope="session")
def scored(world: World, attacked: dict[str, Input]) -> Input:
    return world.run("detect/tiny/badnet/mmcl/seed0/ubt", "ubt", attacked)
