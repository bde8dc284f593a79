"""A cell: one job of the grid and its folder below ``results/``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipmend.errors import PlanError

RESULTS = Path("results")
UNPOISONED = "unpoisoned"  # the attack that changes nothing
NO_REPAIR = "none"  # in place of a repair's name, where the victim itself is evaluated

FIELDS: dict[str, tuple[str, ...]] = {
    "download": ("corpus",),
    "poison": ("corpus", "attack", "seed"),
    "pretrain": ("corpus", "attack", "objective", "seed"),
    "detect": ("corpus", "attack", "objective", "seed", "method"),
    "unlearn": ("corpus", "attack", "objective", "seed", "method"),
    "baselines": ("corpus", "attack", "objective", "seed", "method"),
    "evaluate": ("corpus", "attack", "objective", "seed", "method", "trigger"),
    "report": (),
}
"""The parts of a cell's path below ``results/``, by stage, in the order of the pipeline."""

_VICTIM = FIELDS["pretrain"]


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the grid. A field that its stage does not have is "" or None.

    Attributes:
        stage: the stage that makes the cell.
        corpus: as in ``download.corpora``.
        attack: as in ``poison.methods``.
        objective: as in ``pretrain.methods``.
        seed: the seed of poison, initialization, order and repair.
        method: the detector or the repair; of ``evaluate`` the repair, or ``none``.
        trigger: the trigger under which ``evaluate`` measures.
    """

    stage: str
    corpus: str = ""
    attack: str = ""
    objective: str = ""
    seed: int | None = None
    method: str = ""
    trigger: str = ""

    @classmethod
    def parse(cls, path: str) -> "Place":
        """Return the place that a path below ``results/`` names.

        Raises:
            PlanError: no stage has a cell of such a path.
        """
        stage, *parts = path.strip("/").split("/")
        names = FIELDS.get(stage)
        if names is None or len(names) != len(parts):
            raise PlanError(f"{path!r} does not name a cell; an example is 'download/scenes'.")
        values = dict(zip(names, parts, strict=True))
        if "seed" in values:
            # One spelling per seed: "seed03" would be a second folder for "seed3".
            number = re.fullmatch(r"seed(0|[1-9]\d*)", values["seed"])
            if number is None:
                raise PlanError(f"{path!r} has {values['seed']!r} in place of, say, 'seed0'.")
            values["seed"] = number[1]
        return cls.of(stage, values)

    @classmethod
    def of(cls, stage: str, fields: Mapping[str, str]) -> "Place":
        """Return the place with these fields; those that the stage does not have are ignored."""
        values: dict[str, Any] = {name: fields[name] for name in FIELDS[stage]}
        if "seed" in values:
            values["seed"] = int(values["seed"])
        return cls(stage, **values)

    @property
    def path(self) -> str:
        """The folder of the cell below ``results/``, which is the name of the cell."""
        return "/".join((self.stage, *self._parts(FIELDS[self.stage])))

    @property
    def victim_path(self) -> str:
        """``<corpus>/<attack>/<objective>/seed<k>``."""
        return "/".join(self._parts(_VICTIM))

    @property
    def victim(self) -> "Place":
        """The cell of ``pretrain`` that this cell is about."""
        return self.at("pretrain")

    def at(self, stage: str, **changed: Any) -> "Place":
        """Return the place of another stage with the same fields, as far as that stage has them."""
        blank = replace(Place(stage), **{n: getattr(self, n) for n in FIELDS[stage]})
        return replace(blank, **changed)

    def _parts(self, names: tuple[str, ...]) -> list[str]:
        return [f"seed{self.seed}" if n == "seed" else str(getattr(self, n)) for n in names]


@dataclass(frozen=True)
class Cell:
    """One job, and everything that its key is made of.

    Attributes:
        name: the path of its ``Place``, the folder below ``results/``.
        method: as in ``params.yaml``; for ``download`` the source; else "".
        shared: the settings of the stage as a whole.
        code: module -> digest, over the import closure of the method and its stage.
        files: path -> digest, of the files outside ``results/`` that the cell reads.
        inputs: role -> name of the cell that plays it.
        key: the hash of all of this, with the inputs' keys in place of their names.
    """

    name: str
    stage: str
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    shared: Mapping[str, Any]
    code: Mapping[str, str]
    files: Mapping[str, str]
    inputs: Mapping[str, str]
    key: str = ""

    @property
    def place(self) -> Place:
        """Where the cell stands in the grid."""
        return Place.parse(self.name)

    def ingredients(self) -> dict[str, Any]:
        """Return what the key is made of, except the inputs, as a card holds it."""
        made = {name: getattr(self, name) for name in INGREDIENTS if name != "cell"}
        return {"cell": self.name, **made}


INGREDIENTS = ("cell", "stage", "method", "seed", "settings", "shared", "code", "files")
