"""Every epoch of every learning rate of CleanCLIP's variants, gathered into cleanings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from clipmend.engine.job import Input
from clipmend.methods.table import base
from clipmend.report.order import Victim, inputs_of, victim_of, victim_order

LOSSES = ("mmcl", "ssl", "mmcl_ssl")
_METHOD = "cleanclip"
_WEIGHTS = ("mmcl_weight", "ssl_weight")


@dataclass(frozen=True)
class Run:
    """One cleaning run: a victim, settings, and its curve on the validation images."""

    victim: Victim
    method: str
    settings: Mapping[str, Any]
    points: pd.DataFrame

    @property
    def loss(self) -> str:
        """What it minimized: MMCL, SSL or both."""
        return "_".join(
            name.removesuffix("_weight") for name in _WEIGHTS if self.settings.get(name, 1.0)
        )

    @property
    def lr(self) -> float:
        """Return the peak learning rate."""
        return float(self.settings["lr"])


@dataclass(frozen=True)
class Cleaning:
    """The runs of one victim that differ in their learning rate alone.

    Attributes:
        loss: what all of them minimize.
        change: what else sets them apart from most runs of that loss, "" for these themselves.
        start: the victim as it was, the first row of a curve.
        pairs: how many were cleaned with.
    """

    victim: Victim
    loss: str
    change: str
    runs: tuple[Run, ...]
    start: "pd.Series[Any]"
    pairs: int

    @property
    def name(self) -> str:
        """Return the loss, and what was changed beside it."""
        return f"{self.loss}, {self.change}" if self.change else self.loss

    @property
    def points(self) -> pd.DataFrame:
        """Return every measured epoch of every run but their starts, with its ``lr``."""
        each = [run.points.assign(lr=run.lr) for run in self.runs]
        measured = pd.concat(each).dropna(subset=["clean_accuracy", "attack_success_rate"])
        return measured[measured["epoch"] > 0].reset_index(drop=True)


def cleanings(inputs: Mapping[str, Input]) -> list[Cleaning]:
    """Return the cleanings of poisoned victims; none where only plain `cleanclip` was run."""
    runs = [run for run in _runs(inputs) if run.victim.is_poisoned]
    usual = {loss: _usual(run for run in runs if run.loss == loss) for loss in LOSSES}
    grouped: dict[tuple[Victim, str, str], list[Run]] = {}
    for run in runs:
        change = _change(run.settings, usual[run.loss])
        grouped.setdefault((run.victim, run.loss, change), []).append(run)
    found = [
        _gathered(loss, change, sorted(group, key=lambda run: run.lr), inputs)
        for (_, loss, change), group in grouped.items()
    ]
    return [_from_its_victim(one, found) for one in sorted(found, key=_order)]


def _runs(inputs: Mapping[str, Input]) -> list[Run]:
    given = [one for one in inputs_of(inputs, "baselines") if base(one.method) == _METHOD]
    if not any("@" in one.method for one in given):
        return []
    return [
        Run(victim_of(one.cell), one.method, one.settings, pd.read_csv(one.folder / "curve.csv"))
        for one in sorted(given, key=lambda one: one.cell)
    ]


def _usual(runs: Iterable[Run]) -> dict[str, Any]:
    """Return the most common value of each setting but the rate; of a tie, the smallest."""
    values: dict[str, Counter[Any]] = {}
    for run in runs:
        for name, value in run.settings.items():
            if name != "lr":
                values.setdefault(name, Counter())[value] += 1
    return {
        name: min(counted, key=lambda value: (-counted[value], value))
        for name, counted in values.items()
    }


def _change(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    changed = [name for name in sorted(usual) if settings.get(name) != usual[name]]
    return ", ".join(f"{name} {_said(settings.get(name))}" for name in changed)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _gathered(loss: str, change: str, runs: Sequence[Run], inputs: Mapping[str, Input]) -> Cleaning:
    victim, settings = runs[0].victim, runs[0].settings
    trusted = inputs[f"download/{victim.corpus}"].folder / "trusted.parquet"
    pairs = int(settings.get("pairs", 0)) or pq.read_metadata(trusted).num_rows
    return Cleaning(victim, loss, change, tuple(runs), runs[0].points.iloc[0], pairs)


def _from_its_victim(one: Cleaning, among: Sequence[Cleaning]) -> Cleaning:
    """Return the cleaning with the victim's own start: shrinking moves the first row of a curve."""
    starts = [
        other.start
        for other in among
        if other.victim == one.victim and not _is_moved(other.runs[0].settings)
    ]
    start = starts[0] if starts else one.start
    return replace(one, start=start)


def _is_moved(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("shrink", 1.0) != 1.0 or settings.get("perturb", 0.0))


def _order(one: Cleaning) -> tuple[Any, ...]:
    words = one.change.replace(",", "").split()
    sizes = [float(word) for word in words if word[0].isdigit()]
    names = [word for word in words if not word[0].isdigit()]
    return (victim_order(one.victim), bool(one.change), LOSSES.index(one.loss), names, sizes)
