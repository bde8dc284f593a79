"""What every claim has: its text and thresholds, the tables it is checked on, and its outcome."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from clipmend.report.cells import student_interval
from clipmend.report.claims import victims
from clipmend.report.claims.cleanings import Cleaning
from clipmend.report.scale import Scale


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and how a report checks it.

    CA is clean accuracy, ASR is attack success rate. A *backdoored* victim is a poisoned victim
    whose own ASR is at least the threshold ``backdoored``.

    Attributes:
        id: the name of its file.
        claim: the claim in one sentence.
        source: the arXiv numbers of the papers.
        paper: the paper's own numbers, with their setting; none was measured here.
        scope: what differs from the paper, and what an outcome does not show.
        columns: the files and columns that the check reads.
        comparison: what the check compares, in words.
        thresholds: the numbers that decide, by name.
        over: ``corpus`` for an outcome per corpus; ``sizes`` for one outcome over all corpora of
            one name, such as ``scenes`` and ``scenes@large``.
    """

    id: str
    claim: str
    source: str
    paper: str
    scope: str
    columns: str
    comparison: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    over: Literal["corpus", "sizes"] = "corpus"

    def rule(self) -> str:
        """Return how the claim is checked, then its scope."""
        # `:g` prints 0.19 and 4 as the source has them, without trailing zeros.
        limits = ", ".join(f"{name} = {value:g}" for name, value in self.thresholds.items())
        return f"{self.columns}: {self.comparison}{limits and f' ({limits})'}. {self.scope}"


@dataclass(frozen=True)
class Number:
    """A mean over victims, with the interval whose worse end must pass a threshold.

    Attributes:
        name: the quantity.
        mean: a fraction, or a difference of fractions or cosines.
        interval: Student's t over seeds; with one seed, the lowest and the highest victim; None
            for one victim.
        n: the number of victims, or of pairs of victims.
        seeds: the number of seeds.
    """

    name: str
    mean: float
    interval: tuple[float, float] | None
    n: int
    seeds: int

    @property
    def low(self) -> float:
        """The lower end of the interval; the mean without an interval."""
        return self.interval[0] if self.interval else self.mean

    @property
    def high(self) -> float:
        """The upper end of the interval; the mean without an interval."""
        return self.interval[1] if self.interval else self.mean

    def text(self, form: str = "+.1f", factor: int = 100) -> str:
        """Return mean and interval; by default in percentage points, with their signs."""
        mean, *ends = (f"{factor * value:{form}}" for value in (self.mean, *(self.interval or ())))
        return f"{mean} ({ends[0]} to {ends[1]})" if ends else mean

    def sample(self, unit: str = "victims") -> str:
        """Return the numbers of victims and seeds; with one seed, also what the interval is."""
        # Seeds are the sample, so their number is always printed beside that of the victims.
        if self.seeds > 1:
            return f"n = {self.n} {unit} of {self.seeds} seeds"
        return f"n = {self.n} {unit} of one seed{', lowest to highest' if self.interval else ''}"


@dataclass(frozen=True)
class Outcome:
    """What a run shows about a claim: the status, the reason in words, and the numbers."""

    status: Literal["supported", "not supported", "not tested here"]
    because: str
    numbers: tuple[Number, ...] = ()


def tested(because: str, numbers: Iterable[Number] = (), *, holds: bool) -> Outcome:
    """Return the outcome of a claim that the grid can test."""
    return Outcome("supported" if holds else "not supported", because, tuple(numbers))


def untested(because: str) -> Outcome:
    """Return the outcome of a claim about cells that the grid does not have."""
    return Outcome("not tested here", because)


@dataclass(frozen=True)
class Tables:
    """The tables that claims are checked on.

    Attributes:
        cells: ``cells.csv``.
        detectors: ``detectors.csv``.
        cleanings: the runs of CleanCLIP and their curves.
        scales: the sizes of corpus and model, by corpus.
        confidence: the confidence of intervals over seeds, between 0 and 1.
    """

    cells: pd.DataFrame
    detectors: pd.DataFrame
    cleanings: Sequence[Cleaning]
    scales: Mapping[str, Scale]
    confidence: float

    def of(self, corpora: Sequence[str]) -> "Tables":
        """Return the tables of some corpora alone."""
        # A claim about one corpus must not count the victims of another.
        return replace(
            self,
            cells=self.cells[self.cells["corpus"].isin(corpora)],
            detectors=self.detectors[self.detectors["corpus"].isin(corpora)],
            cleanings=[run for run in self.cleanings if run.victim.corpus in corpora],
            scales={name: self.scales[name] for name in corpora if name in self.scales},
        )

    def number(self, name: str, values: "pd.Series[float]") -> Number:
        """Return the mean of at least one value, indexed by victim, with its interval."""
        each, seeds = victims.victim_means(values), victims.seed_means(values)
        ends = (float(each.min()), float(each.max())) if len(each) > 1 else None
        # Victims of one seed share their initialization and test images: only seeds are a sample.
        interval = student_interval(list(seeds), self.confidence) or ends
        return Number(name, float(seeds.mean()), interval, len(each), len(seeds))
