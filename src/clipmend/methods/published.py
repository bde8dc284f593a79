"""The numbers that papers publish, as data; ``docs/reference/published.md`` prints them."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import yaml


@dataclass(frozen=True)
class Source:
    """A paper or a repository with numbers.

    Attributes:
        citation: the paper or the file.
        known_from: what we read; a reading note or an abstract may err where a table does not.
    """

    citation: str
    known_from: str


@dataclass(frozen=True)
class Repaired:
    """What a repair leaves of an attack, in percent; None where it is not known.

    Attributes:
        source: a key of ``SOURCES``.
        model: the image tower.
        attack: as in ``params.yaml``, where the project has it.
        repair: likewise; ``none`` for the victim.
        clean_accuracy: CA, zero-shot on ImageNet.
        attack_success_rate: ASR.
        triggered_accuracy: share of triggered images that are classified as their true class.
    """

    source: str
    model: str
    attack: str
    repair: str
    clean_accuracy: float | None
    attack_success_rate: float | None
    triggered_accuracy: float | None


@dataclass(frozen=True)
class Difference:
    """A repair compared with another one, in points; None where it is not known.

    Attributes:
        source: a key of ``SOURCES``.
        attack: as in ``Repaired``.
        repair: the repair.
        compared_with: the other one.
        clean_accuracy: its CA less that of the other.
        attack_success_rate: its ASR less that of the other.
    """

    source: str
    attack: str
    repair: str
    compared_with: str
    clean_accuracy: float | None
    attack_success_rate: float | None


@dataclass(frozen=True)
class Detected:
    """How well a detector finds poison, as a fraction.

    Attributes:
        source: a key of ``SOURCES``.
        detector: as in ``params.yaml``, where the project has it.
        scores: what it scores.
        model: the model, or the kind of models.
        attack: as in ``Repaired``.
        metric: the name of the number.
        value: the number.
    """

    source: str
    detector: str
    scores: Literal["pairs", "inputs", "models"]
    model: str
    attack: str
    metric: str
    value: float


Row = Repaired | Difference | Detected

PACKAGE_DATA = ("published.yaml",)
_DATA = yaml.safe_load(Path(__file__).with_name(PACKAGE_DATA[0]).read_text("utf-8"))
SOURCES = {name: Source(*row) for name, row in _DATA["sources"].items()}
REPAIRED = tuple(Repaired(*row) for row in _DATA["repairs"])
DIFFERENCES = tuple(Difference(*row) for row in _DATA["differences"])
DETECTED = tuple(Detected(*row) for row in _DATA["detection"])


def markdown(rows: Iterable[Row], kind: type[Row]) -> str:
    """Return a table of Markdown with one line for each row."""
    header = [field.name.replace("_", " ") for field in fields(kind)]
    lines = [header, ["---"] * len(header), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> list[str]:
    return ["" if value is None else str(value) for value in astuple(row)]
