"""What claims are judged by: the run's own tables, and means over paired victims."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from clipmend.methods import base
from clipmend.report.cells import PAIR
from clipmend.report.intervals import student_interval
from clipmend.report.order import UNDEFENDED, is_poisoned, method_order
from clipmend.report.table import ATTACK, CLEAN

Judgement = Literal["supported", "not supported", "not tested here"]
Limits = Mapping[str, float]
"""The thresholds of a claim, as ``claims.yaml`` states them."""


@dataclass(frozen=True)
class Number:
    """A mean over victims, each of which counts once.

    Attributes:
        mean: a fraction, or a difference of fractions or cosines.
        interval: Student's t; None for one victim, of which it says nothing.
        n: victims under their trigger, or pairs of them.
    """

    name: str
    mean: float
    interval: tuple[float, float] | None
    n: int

    @property
    def low(self) -> float:
        """Return the lower end of the interval; the mean where there is none."""
        return self.interval[0] if self.interval else self.mean

    @property
    def high(self) -> float:
        """Return the upper end of the interval; the mean where there is none."""
        return self.interval[1] if self.interval else self.mean

    def points(self) -> str:
        """Return it in percentage points, with its sign."""
        return self._text(100, "+.1f")

    def percent(self) -> str:
        """Return it in percent."""
        return self._text(100, ".1f")

    def plain(self) -> str:
        """Return it as it is, with its sign."""
        return self._text(1, "+.3f")

    def _text(self, factor: int, form: str) -> str:
        mean = f"{factor * self.mean:{form}}"
        if self.interval is None:
            return mean
        low, high = self.interval
        return f"{mean} ({factor * low:{form}} to {factor * high:{form}})"


@dataclass(frozen=True)
class Finding:
    """What the tables say to a claim."""

    verdict: Judgement
    because: str
    numbers: tuple[Number, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The tables of one corpus, or of corpora that differ in size alone.

    Attributes:
        detectors: ``detectors.csv``.
        sweep: ``pareto.csv``; no row where no cleaning was swept.
        sizes: training pairs by corpus.
    """

    cells: pd.DataFrame
    detectors: pd.DataFrame
    sweep: pd.DataFrame
    sizes: Mapping[str, int]
    confidence: float

    def number(self, name: str, values: Iterable[float]) -> Number:
        """Return the mean of at least one value, with its interval."""
        known = [float(value) for value in values]
        interval = student_interval(known, self.confidence)
        return Number(name, sum(known) / len(known), interval, len(known))


def untested(because: str) -> Finding:
    """Return the verdict where the grid lacks what the claim is about."""
    return Finding("not tested here", because)


def judgement(*, holds: bool) -> Judgement:
    """Return the verdict of a claim that was tested."""
    return "supported" if holds else "not supported"


def poisoned_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of poisoned victims, but for controls."""
    return cells[cells["attack"].map(is_poisoned) & ~cells["control"].astype(bool)]


def planted(cells: pd.DataFrame, least: float) -> pd.DataFrame:
    """Return the undefended poisoned victims whose ASR is at least so high.

    Of a backdoor that was never learnt there is nothing to remove and nothing to find.
    """
    start = poisoned_cells(cells)
    return start[(start["method"] == UNDEFENDED) & (start[ATTACK] >= least)]


def rivals(cells: pd.DataFrame, ours: str) -> list[str]:
    """Return the repairs that are no controls, no variants of ``ours`` and not helped to fail."""
    names = {
        str(name)
        for name in poisoned_cells(cells)["method"]
        if name != UNDEFENDED and base(str(name)) != ours and poisons_of(str(name)) is None
    }
    return sorted(names, key=method_order)


def poisons_of(method: str) -> int | None:
    """Return how many poisoned pairs a variant ``@poisons<n>`` has among its trusted ones."""
    count = method.partition("@poisons")[2]
    return int(count) if count.isdecimal() else None


def paired(ours: pd.DataFrame, theirs: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return both on the same victims under the same trigger; theirs end in ``_other``."""
    columns = [*PAIR, *(metrics or (CLEAN, ATTACK))]
    return ours[columns].merge(theirs[columns], on=list(PAIR), suffixes=("", "_other"))
