"""Cells of victims, paired so that two methods or two victims are compared on equal terms."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from clipmend.engine.cell import NO_REPAIR
from clipmend.methods.table import base
from clipmend.report.cells import ATTACK, PAIR, VICTIM, groups
from clipmend.report.order import is_poisoned


def poisoned(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of poisoned victims, without controls."""
    # A control uses what no defender has: it takes no part in a comparison.
    return cells[cells["attack"].map(is_poisoned) & ~cells["control"].astype(bool)]


def backdoored(cells: pd.DataFrame, least: float) -> pd.DataFrame:
    """Return the undefended poisoned victims whose ASR is at least ``least``."""
    # A backdoor that the model never learned can neither be removed nor detected.
    start = poisoned(cells)
    return start[(start["method"] == NO_REPAIR) & (start[ATTACK] >= least)]


def other_repairs(cells: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return the cells of repairs other than ``ours``, without controls and ``@poisons<n>``."""
    # To beat a variant with poisoned trusted pairs shows nothing: it is made to fail.
    rows = poisoned(cells)
    return rows.loc[
        [
            name != NO_REPAIR and base(name) != ours and poisons_in(name) is None
            for name in rows["method"]
        ]
    ]


def poisons_in(method: str) -> int | None:
    """Return how many poisoned pairs a variant ``@poisons<n>`` has among its trusted pairs."""
    count = method.partition("@poisons")[2]
    return int(count) if count.isdecimal() else None


def paired(ours: pd.DataFrame, theirs: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return two methods' metrics on the same victims and triggers; theirs end in ``_other``."""
    columns = [*PAIR, *metrics]
    # Same victim, same trigger: the test images are the same, too.
    both = ours[columns].merge(theirs[columns], on=list(PAIR), suffixes=("", "_other"))
    return by_victim(both.dropna())


@dataclass(frozen=True)
class Comparison:
    """A method and its rivals on the same victims.

    Attributes:
        rivals: by rival, what ``paired`` returns.
        left_out: rivals that were not measured on all victims of the method.
    """

    rivals: Mapping[str, pd.DataFrame]
    left_out: tuple[str, ...]

    def best(self, metric: str, sign: int) -> str:
        """Return the rival with the highest mean, or with ``sign`` -1 the lowest mean."""
        return max(self.rivals, key=lambda rival: sign * self.mean(rival, metric))

    def mean(self, rival: str, metric: str) -> float:
        """Return the rival's mean of a metric."""
        return float(seed_means(self.rivals[rival][f"{metric}_other"]).mean())


def compare(ours: pd.DataFrame, others: pd.DataFrame, *metrics: str) -> Comparison:
    """Compare a method with each rival that was measured on all of the method's victims."""
    measured = ours.dropna(subset=list(metrics))
    pairs = {
        str(name): paired(measured, theirs, *metrics)
        for (name,), theirs in groups(others, "method")
        if len(measured)
    }
    # The best rival is chosen by its mean, and a mean over fewer victims is not comparable.
    rivals = {name: both for name, both in pairs.items() if len(both) == len(measured)}
    return Comparison(rivals, tuple(name for name in pairs if name not in rivals))


def left_out_note(*comparisons: Comparison) -> str:
    """Return a sentence that names the rivals left out; empty if there are none."""
    names = dict.fromkeys(name for compared in comparisons for name in compared.left_out)
    listed = ", ".join(f"`{name}`" for name in names)
    return f" Left out, for lack of some of these victims: {listed}." if names else ""


def by_victim(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table indexed by victim, as means over victims need it."""
    return table.set_index(list(VICTIM))


def victim_means(values: "pd.Series[float]") -> "pd.Series[float]":
    """Return a value per victim: the mean over its triggers."""
    # A victim of several attacks has a row per trigger; without this it would weigh more.
    return values.astype(float).groupby(level=list(VICTIM)).mean()


def seed_means(values: "pd.Series[float]") -> "pd.Series[float]":
    """Return a value per seed: the mean over its victims, where each counts once."""
    return victim_means(values).groupby(level="seed").mean()
