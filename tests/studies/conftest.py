"""A small results folder as a study reads it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clipmend.engine.cell import Place

MODEL = {"model": "RN50", "pretrained": None}


class Results:
    """A results folder, filled cell by cell."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, name: str, method: str, settings: Any = None, shared: Any = None) -> Path:
        place, folder = Place.parse(name), self.root / name
        folder.mkdir(parents=True)
        card = {"cell": name, "key": "0" * 64, "inputs": {}, "outputs": {}}
        card |= {"stage": place.stage, "method": method, "seed": place.seed}
        card |= {"settings": settings or {}, "shared": shared or {}}
        (folder / "card.json").write_text(json.dumps(card))
        return folder

    def victim(self, name: str, shared: Any = MODEL, source: str = "scenes") -> None:
        """Write a victim, with its corpus and its poison unless they exist."""
        victim = Place.parse(f"pretrain/{name}")
        self.cell(victim.path, victim.objective, shared=shared)
        corpus, poison = victim.at("download").path, victim.at("poison").path
        if not (self.root / corpus).exists():
            folder = self.cell(corpus, source)
            for split, pairs in (("train", 200), ("trusted", 300)):
                pd.DataFrame({"id": range(pairs)}).to_parquet(folder / f"{split}.parquet")
        if not (self.root / poison).exists():
            is_poisoned = [True] * (17 if victim.attack != "unpoisoned" else 0) + [False]
            overlay = pd.DataFrame({"is_poisoned": is_poisoned})
            overlay.to_parquet(self.cell(poison, victim.attack) / "overlay.parquet")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")
