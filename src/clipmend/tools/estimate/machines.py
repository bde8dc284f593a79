"""How fast machines train models: figures that ship with the package, each with its provenance."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from clipmend.engine import gpus
from clipmend.errors import UnknownNameError
from clipmend.tools.estimate.costs import Source

PACKAGE_DATA = ("machines.json",)


@dataclass(frozen=True)
class Rate:
    """Training throughput: pairs a second, forward and backward through both towers.

    Attributes:
        origin: machine, date and command, or the publication.
    """

    per_second: float
    source: Source
    origin: str


@dataclass(frozen=True)
class Machine:
    """What jobs run on, one core or one GPU each.

    Attributes:
        unit: ``core`` or ``GPU``.
        rates: (model, image size in pixels) -> rate.
    """

    name: str
    what: str
    unit: str
    rates: dict[tuple[str, int], Rate]

    def rate(self, model: str, image_size: int) -> Rate | None:
        """Return the rate of a model; at another size than measured, in proportion to pixels."""
        exact = self.rates.get((model, image_size))
        if exact is not None:
            return exact
        near = [(abs(size - image_size), size) for name, size in self.rates if name == model]
        if not near:
            return None
        size = min(near)[1]
        known = self.rates[model, size]
        source: Source = "assumed" if known.source == "assumed" else "extrapolated"
        origin = f"{known.origin}; at {size} px, taken to {image_size} px by the number of pixels"
        return Rate(known.per_second * (size / image_size) ** 2, source, origin)


def machines() -> dict[str, Machine]:
    """Return every machine that figures ship for, by name."""
    path = files("clipmend.tools.estimate").joinpath(*PACKAGE_DATA)
    stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: _machine(name, one) for name, one in stated.items()}


def machine_named(name: str) -> Machine:
    """Return a machine.

    Raises:
        UnknownNameError: no figures ship for it.
    """
    known = machines()
    if name not in known:
        raise UnknownNameError("machine profile", name, known)
    return known[name]


def usual(device: str) -> str:
    """Return the name of the machine whose figures are taken where none is asked for.

    Args:
        device: of ``params.yaml``; ``auto`` is a GPU where its driver is there.
    """
    if device == "cpu" or (device == "auto" and not gpus.has_driver()):
        return "cpu"
    return next(name for name, one in machines().items() if one.unit == "GPU")


def _machine(name: str, stated: dict[str, Any]) -> Machine:
    rates = {
        (one["model"], one["image_size"]): Rate(
            float(one["samples_per_second"]), one["source"], one["from"]
        )
        for one in stated["rates"]
    }
    return Machine(name, stated["what"], stated["unit"], rates)
