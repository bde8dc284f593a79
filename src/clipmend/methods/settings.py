"""The types of a method's settings, which ``engine.schema`` reads without importing the method."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field


def _is_word(value: str) -> str:
    if set("{}") & set(value) or not any(map(str.isalnum, value)):
        raise ValueError("a word has a letter or a digit, and no braces")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
ProperFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Natural = Annotated[int, Field(ge=0)]
Word = Annotated[str, AfterValidator(_is_word)]
PatchPlace = Literal[
    "lower_right", "lower_left", "upper_right", "upper_left", "corners", "middle", "random"
]


class OutsideFile:
    """Marks a path whose bytes belong to the key of every cell that has the setting."""


class ModelConfig:
    """Marks a model's name, or the path of its ``.json``, whose bytes then belong to the key."""


@dataclass(frozen=True)
class Edge:
    """Marks a setting that names a method of another stage: an edge of the graph of cells.

    Attributes:
        stage: the stage whose method the setting names.
    """

    stage: str


OnBadRows = Literal["skip", "refuse"]
InputPath = Annotated[str, OutsideFile]
ModelName = Annotated[str, ModelConfig]
DetectorName = Annotated[str, Edge("detect")]
ObjectiveName = Annotated[str, Edge("pretrain")]
AttackName = Annotated[str, Edge("poison")]
