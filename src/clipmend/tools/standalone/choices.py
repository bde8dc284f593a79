"""The settings of UBT that a practitioner sets, checked as ``params.yaml`` is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from clipmend.engine import schema
from clipmend.engine.schema import problems
from clipmend.errors import ParamsError, UnknownNameError
from clipmend.methods import table

STAGES = ("detect", "unlearn")
METHOD = "ubt"
_FIXED = {
    "unlearn.choose": "only suspects can be chosen where nobody knows the poison",
    "unlearn.detector": "the scores are always those of `ubt`",
}


@dataclass(frozen=True)
class Choices:
    """All settings of detection and of unlearning."""

    detect: dict[str, Any]
    unlearn: dict[str, Any]


def read_choices(stated: Sequence[str], *, early: bool) -> Choices:
    """Return the settings, the defaults among them.

    Args:
        stated: ``stage.name=value`` each, the value as YAML has it; the last one of a name counts.
        early: whether an early checkpoint is given; the first look is then taken with it.

    Raises:
        ParamsError: a setting is unknown, out of its bounds, or not to be set here.
    """
    given: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for text in stated:
        stage, name, value = _split(text)
        given[stage][name] = value
    if early:
        given["detect"].setdefault("reference", "early")
    choices = Choices(*(_checked(stage, given[stage]) for stage in STAGES))
    _check_reference(choices.detect["reference"], early=early)
    return choices


def _split(text: str) -> tuple[str, str, Any]:
    place, equals, value = text.partition("=")
    stage, dot, name = place.strip().partition(".")
    if not (equals and dot):
        raise ParamsError(
            f"--set {text!r} cannot be read; allowed is STAGE.NAME=VALUE, such as "
            "detect.suspect_share=0.2."
        )
    if stage not in STAGES:
        raise UnknownNameError("stage in --set:", stage, STAGES)
    if place.strip() in _FIXED:
        raise ParamsError(f"{place.strip()} cannot be set here: {_FIXED[place.strip()]}.")
    try:
        return stage, name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParamsError(f"--set {text!r} has a value that cannot be read as YAML.") from None


def _checked(stage: str, given: dict[str, Any]) -> dict[str, Any]:
    model = schema.declaration(*table.reference(stage, METHOD))
    try:
        return model(**given).model_dump()
    except ValidationError as error:
        known: dict[str, Any] = {n: {} for n in model.model_fields if f"{stage}.{n}" not in _FIXED}
        raise ParamsError(problems(stage, error, known)) from None


def _check_reference(reference: str, *, early: bool) -> None:
    if reference == "early" and not early:
        raise ParamsError("detect.reference=early needs the early checkpoint; name it by --early.")
    if reference == "trusted":
        raise ParamsError(
            "detect.reference=trusted needs trusted pairs, which this command does not take; "
            "allowed: victim, scratch, and early with --early."
        )
