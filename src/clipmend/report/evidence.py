"""What claims are judged by: the run's own tables, and means over paired victims."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from clipmend.methods.table import base
from clipmend.report.cells import PAIR, VICTIM, groups
from clipmend.report.intervals import student_interval
from clipmend.report.order import UNDEFENDED, is_poisoned
from clipmend.report.table import ATTACK, CLEAN

Judgement = Literal["supported", "not supported", "not tested here"]
Limits = Mapping[str, float]
"""The thresholds of a claim, as ``claims.yaml`` states them."""


@dataclass(frozen=True)
class Number:
    """A mean over victims, each of which counts once, however many triggers it has.

    Victims of one seed share their initialization and their test images. So it is over the means
    of seeds where there are several, and no sample at all where there is one.

    Attributes:
        mean: a fraction, or a difference of fractions or cosines.
        interval: Student's t over seeds; of one seed, the lowest victim and the highest; None
            for one victim.
        n: victims, or pairs of them.
        seeds: how many they are of.
    """

    name: str
    mean: float
    interval: tuple[float, float] | None
    n: int
    seeds: int

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

    def counted(self, what: str = "victims") -> str:
        """Return how many it is a mean of, and of one seed what its ends are."""
        if self.seeds > 1:
            return f"n = {self.n} {what} of {self.seeds} seeds"
        ends = ", lowest to highest" if self.interval else ""
        return f"n = {self.n} {what} of one seed{ends}"

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

    def number(self, name: str, values: "pd.Series[float]") -> Number:
        """Return the mean of at least one value, each by its victim, with its interval."""
        each = _once(values)
        seeds = _of_seeds(each)
        ends = (float(each.min()), float(each.max())) if len(each) > 1 else None
        interval = student_interval(list(seeds), self.confidence) or ends
        return Number(name, mean_over_victims(values), interval, len(each), len(seeds))


@dataclass(frozen=True)
class Beside:
    """A method beside its rivals.

    Attributes:
        on_all: what both measured on all of the method's victims, by rival.
        left_out: rivals that lack some of these victims. Which is the best is told by means, and
            over other victims these tell nothing.
    """

    on_all: Mapping[str, pd.DataFrame]
    left_out: tuple[str, ...]

    def best(self, metric: str, sign: int) -> str:
        """Return the rival whose mean is the highest, or with a sign of -1 the lowest."""
        return max(self.on_all, key=lambda rival: sign * self.mean(rival, metric))

    def mean(self, rival: str, metric: str) -> float:
        """Return the rival's mean of a metric."""
        return mean_over_victims(self.on_all[rival][f"{metric}_other"])


def untested(because: str) -> Finding:
    """Return the verdict where the grid lacks what the claim is about."""
    return Finding("not tested here", because)


def judgment(*, holds: bool) -> Judgement:
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


def rivals(cells: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return the cells of repairs that are no controls, no ``ours``, and not helped to fail."""
    poisoned = poisoned_cells(cells)
    is_rival = [
        name != UNDEFENDED and base(name) != ours and poisons_of(name) is None
        for name in poisoned["method"]
    ]
    return poisoned.loc[is_rival]


def poisons_of(method: str) -> int | None:
    """Return how many poisoned pairs a variant ``@poisons<n>`` has among its trusted ones."""
    count = method.partition("@poisons")[2]
    return int(count) if count.isdecimal() else None


def paired(ours: pd.DataFrame, theirs: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return both on the same victims under the same trigger; theirs end in ``_other``."""
    columns = [*PAIR, *(metrics or (CLEAN, ATTACK))]
    both = ours[columns].merge(theirs[columns], on=list(PAIR), suffixes=("", "_other"))
    return by_victim(both.dropna())


def beside(ours: pd.DataFrame, others: pd.DataFrame, *metrics: str) -> Beside:
    """Return a method beside the rivals that were measured on all of its victims."""
    known = ours.dropna(subset=list(metrics))
    met = {
        str(name): paired(known, theirs, *metrics)
        for (name,), theirs in groups(others, "method")
        if len(known)
    }
    on_all = {name: both for name, both in met.items() if len(both) == len(known)}
    return Beside(on_all, tuple(name for name in met if name not in on_all))


def told_left_out(*compared: Beside) -> str:
    """Return a sentence that names the rivals left out, if there are any."""
    names = dict.fromkeys(name for one in compared for name in one.left_out)
    listed = ", ".join(f"`{name}`" for name in names)
    return f" Left out, for lack of some of these victims: {listed}." if names else ""


def by_victim(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its rows named by their victims, as numbers need them."""
    return table.set_index(list(VICTIM))


def mean_over_victims(values: "pd.Series[float]") -> float:
    """Return the mean over the means of seeds, each victim counting once."""
    return float(_of_seeds(_once(values)).mean())


def victims_of(flags: "pd.Series[bool]") -> int:
    """Return how many victims have such a row."""
    return int(flags.groupby(level=list(VICTIM)).any().sum())


def _once(values: "pd.Series[float]") -> "pd.Series[float]":
    """Return a value per victim: the mean over its triggers."""
    return values.astype(float).groupby(level=list(VICTIM)).mean()


def _of_seeds(each: "pd.Series[float]") -> "pd.Series[float]":
    """Return the means over the victims of each seed."""
    return each.groupby(level="seed").mean()
