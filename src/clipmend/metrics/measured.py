"""A number that was measured of a model, with what it means."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from clipmend.metrics.rates import Rate


@dataclass(frozen=True)
class Mean:
    """A mean over ``n`` images."""

    value: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """A number and its definition, as ``metrics.json`` states both."""

    number: Rate | Mean
    meaning: str


def suffixed(measured: Mapping[str, Measured], suffix: str) -> dict[str, Measured]:
    """Return the same by longer names."""
    return {f"{name}_{suffix}": one for name, one in measured.items()}
