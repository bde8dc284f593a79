"""The settings of the commands' methods, checked as those in ``params.yaml`` are."""

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from clipmend.engine import schema
from clipmend.engine.schema import problems
from clipmend.errors import ParamsError, UnknownNameError
from clipmend.methods import table

STAGES = ("detect", "unlearn")
DETECTORS = {"see_through": "shared_pattern", "ubt": "ubt"}
"""Each repair that the commands offer, with the detector whose scores it reads."""
# Settings that would need knowledge which a user of these commands does not have.
_FIXED = {
    "unlearn.choose": "the other choices need to know the poison",
    "unlearn.trigger": "the true triggers are unknown",
    "unlearn.detector": "--method decides it",
}


def read_settings(texts: Sequence[str], *, method: str, early: bool) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage, defaults included.

    Args:
        texts: ``STAGE.NAME=VALUE`` each, the value in YAML; the last one of a name counts.
        method: the repair.
        early: whether there is an early checkpoint; it is then the reference of UBT's pre-scoring.

    Raises:
        ParamsError: a setting is unknown, out of its bounds, or fixed in these commands.
    """
    if early and method != "ubt":
        raise ParamsError(f"--early is read by --method ubt alone, not by {method}; leave it out.")
    # A user who passes an early checkpoint wants it used, unless a setting says otherwise.
    chosen: dict[str, dict[str, Any]] = {"detect": {"reference": "early"} if early else {}}
    chosen["unlearn"] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        stage, dot, name = path.strip().partition(".")
        if not (equals and dot):
            raise ParamsError(
                f"--set {text!r} cannot be read. Expected STAGE.NAME=VALUE, such as "
                "unlearn.epochs=2."
            )
        if stage not in STAGES:
            raise UnknownNameError("stage in --set:", stage, STAGES)
        if (why := _FIXED.get(f"{stage}.{name}")) is not None:
            raise ParamsError(f"{stage}.{name} cannot be set here: {why}.")
        try:
            chosen[stage][name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ParamsError(f"--set {text!r} has a value that cannot be read as YAML.") from None
    names = {"detect": DETECTORS[method], "unlearn": method}
    settings = {stage: _checked(stage, names[stage], chosen[stage]) for stage in STAGES}
    _check_reference(settings["detect"].get("reference"), early=early)
    return settings


def _check_reference(reference: str | None, *, early: bool) -> None:
    """Refuse a model of UBT's pre-scoring that these commands do not have."""
    if reference == "early" and not early:
        raise ParamsError("detect.reference=early needs the early checkpoint; add --early.")
    if reference == "trusted":
        raise ParamsError(
            "detect.reference=trusted needs trusted pairs, which this command does not take. "
            "Allowed: victim, scratch, and early with --early."
        )


def _checked(stage: str, name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    model = schema.declaration(*table.reference(stage, name))
    try:
        return model(**chosen).model_dump()
    except ValidationError as error:
        known: dict[str, Any] = {n: {} for n in model.model_fields if f"{stage}.{n}" not in _FIXED}
        raise ParamsError(problems(stage, error, known)) from None
