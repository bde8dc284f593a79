"""Two small runs, written card by card."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from clipmend.engine import cards
from clipmend.tools.audit.sides import Side

VICTIM = "scenes/badnet/mmcl/seed0"
ENVIRONMENT = {"python": "3.11.7", "packages": {"torch": "2.13.0"}, "cpu": "avx2", "device": "cpu"}
METHODS = {"download": "scenes", "poison": "badnet", "pretrain": "mmcl"}
INPUTS = {
    "poison/scenes/badnet/seed0": ["download/scenes"],
    f"pretrain/{VICTIM}": ["download/scenes", "poison/scenes/badnet/seed0"],
    f"baselines/{VICTIM}/ft": ["download/scenes", f"pretrain/{VICTIM}"],
    f"evaluate/{VICTIM}/ft/badnet": ["download/scenes", f"baselines/{VICTIM}/ft"],
}


@dataclass
class Run:
    """A run whose cells can differ from the default; a cell comes after those that it reads.

    Attributes:
        parts: cell -> parts of its card that differ from the default.
        bytes_of: cell -> a text that its bytes depend on beside its parts.
        report: files of the report.
        file: the name of the one file that every cell writes.
    """

    name: str
    cells: dict[str, list[str]] = field(
        default_factory=lambda: {"download/scenes": [], **{c: list(i) for c, i in INPUTS.items()}}
    )
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    bytes_of: dict[str, str] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)
    report: dict[str, bytes] = field(default_factory=dict)
    file: str = "made"

    def side(self) -> Side:
        made: dict[str, dict[str, Any]] = {}
        for cell, inputs in self.cells.items():
            made[cell] = self._card(cell, {name: made[name] for name in inputs})
        everything = self._card("report", made)
        return Side(self.name, made | {"report": everything}, self.edited, self.report.get)

    def _card(self, cell: str, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        stage = cell.partition("/")[0]
        ingredients = {
            "cell": cell,
            "stage": stage,
            "method": METHODS.get(stage, cell.rpartition("/")[2]),
            "seed": 0,
            "settings": {"lr": 0.1},
            "shared": {"target": "banana"} if stage == "poison" else {},
            "code": {"clipmend.shared": "s1", f"clipmend.{stage}.stage": f"{stage}1"},
            "files": {},
            **{k: v for k, v in self.parts.get(cell, {}).items() if k != "environment"},
        }
        # A repair writes the same bytes in either of the two stages.
        stage_text = "repair" if stage in ("unlearn", "baselines") else cell
        read = {name: cards.as_read(card) for name, card in inputs.items()}
        more = self.bytes_of.get(cell, "")
        if stage == "report":
            text = cards.canonical([*map(dict, inputs.values()), ingredients, more])
        else:
            hashes = [list(given["outputs"].values()) for given in read.values()]
            values = [list(ingredients[part].values()) for part in ("settings", "shared")]
            text = cards.canonical([ingredients["seed"], stage_text, values, hashes, more])
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {
            **ingredients,
            "key": cards.key(ingredients, {role: card["key"] for role, card in inputs.items()}),
            "inputs": read,
            "outputs": {self.file: {"sha256": digest, "size": 1}},
            "environment": self.parts.get(cell, {}).get("environment", ENVIRONMENT),
        }

    def numbers(self, **rates: float) -> None:
        """Write cells.csv with the one row of this run."""
        row = {"corpus": "scenes", "attack": "badnet", "trigger": "badnet", "objective": "mmcl"}
        row |= {"seed": 0, "stage": "baselines", "method": "ft"}
        row |= {"clean_accuracy": 0.9, "attack_success_rate": 0.5} | rates
        text = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n"
        self.report["cells.csv"] = text.encode()

    def functions(self, module: str, parts: Mapping[str, str]) -> None:
        """Write code.json with the digests of one module and of its parts."""
        own = {name: digest for name, digest in parts.items() if name != "digest"}
        code = {f"clipmend.{module}": {"digest": parts["digest"], "parts": own}}
        self.report["code.json"] = json.dumps(code).encode()


@pytest.fixture
def a() -> Run:
    return Run("a")


@pytest.fixture
def b() -> Run:
    return Run("b")
