"""The repair of a call, with its detector and their settings, checked as ``params.yaml`` is."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from clipmend.engine import presets, schema
from clipmend.engine.schema import problems, shown
from clipmend.errors import ParamsError, UnknownNameError
from clipmend.methods import table
from clipmend.methods.interfaces import Repair
from clipmend.tools.standalone.options import Options

log = logging.getLogger(__name__)
REPAIRS = ("unlearn", "baselines")
STAGES = ("detect", *REPAIRS)
_READ_EARLY = ("ubt", "abl")  # the repairs whose detectors can read an early checkpoint
# Settings that would need knowledge which a user of these commands does not have.
_FIXED = {
    "unlearn.choose": "the other choices need to know the poison",
    "unlearn.trigger": "the true triggers are unknown",
    "unlearn.detector": "--method decides it",
    "baselines.poisons": "the true poison is unknown",
}


@dataclass(frozen=True)
class Chosen:
    """The methods of a call.

    Attributes:
        stage: ``unlearn``, whose repairs work on the training pairs, or ``baselines``, whose
            repairs work on trusted pairs.
        method: the repair.
        detector: the detector whose scores it reads; None: it reads none.
        settings: of each stage, defaults included.
        reads: the pairs that the methods read: ``train``, ``trusted``, or both.
    """

    stage: str
    method: str
    detector: str | None
    settings: Mapping[str, dict[str, Any]]
    reads: tuple[str, ...]


def choose(options: Options, *, is_repair: bool) -> Chosen:
    """Return the methods of a call; everything that they need must be among its options.

    Args:
        is_repair: whether the model is repaired, not only inspected.

    Raises:
        ParamsError: the repair is unknown or its needs are not met, or a setting is unknown, out
            of its bounds, or fixed in these commands.
    """
    method = options.method
    stage = next((name for name in REPAIRS if method in table.METHODS[name]), "")
    if not stage:
        raise UnknownNameError("repair in --method:", method, _without("labels"))
    defaults = _declaration(stage, method)()
    detector: str | None = schema.edge(defaults, "detect")
    if not (detector or is_repair):
        ranking = ", ".join(table.METHODS["unlearn"])
        raise ParamsError(
            f"--method {method} ranks no pairs: it trains on trusted pairs. Allowed here: "
            f"{ranking}."
        )
    names = {"detect": detector, stage: method} if detector else {stage: method}
    given = _read(options.settings or (), names, method)
    # A user who passes an early checkpoint wants it used, unless a setting says otherwise.
    if options.early is not None and method == "ubt":
        given["detect"] = {"reference": "early", **given["detect"]}
    settings = {name: _checked(name, names[name], given[name]) for name in names}
    repair: Repair = table.create(stage, method, settings[stage])
    _check_early(options, settings)
    reference = settings.get("detect", {}).get("reference")
    reads = dict.fromkeys((*repair.needs, *(("trusted",) if reference == "trusted" else ())))
    _check_pairs(options, tuple(reads), reference)
    return Chosen(stage, method, detector, settings, tuple(reads))


def _check_pairs(options: Options, reads: Sequence[str], reference: object) -> None:
    """Refuse a call without the pairs that its methods read."""
    method = options.method
    if "labels" in reads:
        raise ParamsError(
            f"--method {method} needs the classes of clean images, which pairs do not have; it "
            "runs in a pipeline alone (baselines.methods in params.yaml)."
        )
    if "train" in reads and options.pairs is None:
        raise ParamsError(
            f"--method {method} needs the pairs that the model was trained on; add --pairs."
        )
    if "trusted" in reads and options.trusted is None:
        if reference == "trusted":
            raise ParamsError("detect.reference=trusted needs trusted pairs; add --trusted.")
        raise ParamsError(
            f"--method {method} trains on clean pairs that you trust; add --trusted. Repairs that "
            f"need none: {', '.join(_without('trusted'))}."
        )
    for split, path in {"train": options.pairs, "trusted": options.trusted}.items():
        if path is not None and split not in reads:
            log.warning("%s is not read by --method %s.", path, method)


def _without(need: str) -> list[str]:
    """Return the repairs that do not need ``trusted`` pairs, or ``labels``."""
    return [
        name
        for stage in REPAIRS
        for name in table.METHODS[stage]
        if need not in table.create(stage, name, {}).needs
    ]


def _check_early(options: Options, settings: Mapping[str, dict[str, Any]]) -> None:
    """Refuse a call without the early checkpoint that it reads, or with one that it does not."""
    method, has_early = options.method, options.early is not None
    if method == "abl" and not has_early:
        raise ParamsError(
            "--method abl ranks the pairs by weights from early in training; add --early."
        )
    if method == "ubt" and settings["detect"]["reference"] == "early" and not has_early:
        raise ParamsError("detect.reference=early needs the early checkpoint; add --early.")
    if has_early and method not in _READ_EARLY:
        raise ParamsError(
            f"--early is read by --method {' and '.join(_READ_EARLY)} alone, not by {method}; "
            "leave it out."
        )


def _read(texts: Sequence[str], names: Mapping[str, str], method: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each stage from ``STAGE.NAME=VALUE`` texts; the last one counts."""
    chosen: dict[str, dict[str, Any]] = {stage: {} for stage in names}
    for text in texts:
        path, equals, value = text.partition("=")
        stage, dot, name = path.strip().partition(".")
        if not (equals and dot):
            raise ParamsError(
                f"--set {shown(text)} cannot be read. Expected STAGE.NAME=VALUE, such as "
                "unlearn.epochs=2."
            )
        if stage not in STAGES:
            raise UnknownNameError("stage in --set:", stage, STAGES)
        if stage not in chosen:
            raise ParamsError(
                f"--set {shown(text)} is of another stage; --method {method} has settings of "
                f"{' and '.join(names)}."
            )
        if (why := _FIXED.get(f"{stage}.{name}")) is not None:
            raise ParamsError(f"{stage}.{name} cannot be set here: {why}.")
        try:
            chosen[stage][name] = presets.parse(value, text)
        except ParamsError:
            raise ParamsError(
                f"--set {shown(text)} has a value that cannot be read as YAML."
            ) from None
    return chosen


def _declaration(stage: str, name: str) -> type[BaseModel]:
    return schema.declaration(*table.reference(stage, name))


def _checked(stage: str, name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    model = _declaration(stage, name)
    try:
        return model(**chosen).model_dump()
    except ValidationError as error:
        known: dict[str, Any] = {n: {} for n in model.model_fields if f"{stage}.{n}" not in _FIXED}
        raise ParamsError(problems(stage, error, known)) from None
