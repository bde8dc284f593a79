"""The runs of CleanCLIP and its variants: what each changed, and its curve on ``val``."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from clipmend.data.artifacts import CURVE
from clipmend.engine.cell import Place
from clipmend.engine.job import Input
from clipmend.methods.table import base
from clipmend.report.cells import ATTACK, CLEAN
from clipmend.report.order import is_poisoned

LOSSES = ("mmcl", "ssl", "mmcl_ssl")
"""MMCL is the multimodal contrastive loss, SSL the self-supervised loss."""


@dataclass(frozen=True)
class Cleaning:
    """One run of CleanCLIP on a poisoned victim.

    Attributes:
        victim: the cell of ``pretrain``.
        method: ``cleanclip`` or a variant.
        settings: the run's settings.
        changes: the settings, without the rate, that differ from most runs of the same loss.
        start: the victim before cleaning, as a row of a curve.
        points: every measured epoch after the start, with the peak learning rate ``lr``.
    """

    victim: Place
    method: str
    settings: Mapping[str, Any]
    changes: tuple[tuple[str, Any], ...]
    start: "pd.Series[Any]"
    points: pd.DataFrame

    @property
    def loss(self) -> str:
        """The loss that the run minimized: one of ``LOSSES``."""
        return _loss(self.settings)


def cleanings(inputs: Mapping[str, Input]) -> list[Cleaning]:
    """Return the runs on poisoned victims, by cell; none if no variant of CleanCLIP was run.

    Reads ``curve.csv`` of ``baselines``.
    """
    runs = [run for run in inputs.values() if run.stage == "baselines"]
    runs = [run for run in runs if base(run.method) == "cleanclip"]
    # Plain CleanCLIP alone is one run per victim, and sweeps nothing.
    if not any("@" in run.method for run in runs):
        return []
    runs = sorted((run for run in runs if is_poisoned(run.place.attack)), key=lambda run: run.cell)
    curves = {run.cell: pd.read_csv(run.folder / CURVE) for run in runs}
    usual = {
        loss: _usual(run.settings for run in runs if _loss(run.settings) == loss) for loss in LOSSES
    }
    starts: dict[Place, pd.Series[Any]] = {}
    for run in runs:
        # Shrinking or perturbing the weights changes the first row of a curve: such a run takes
        # its start from another run of the same victim.
        if run.settings.get("shrink", 1.0) == 1.0 and not run.settings.get("perturb", 0.0):
            starts.setdefault(run.place.victim, curves[run.cell].iloc[0])
    made = []
    for run in runs:
        victim, curve, common = run.place.victim, curves[run.cell], usual[_loss(run.settings)]
        # A rate that was not measured at a point of the curve is empty.
        measured = curve.dropna(subset=[CLEAN, ATTACK]).assign(lr=float(run.settings["lr"]))
        changes = tuple(
            (name, run.settings.get(name))
            for name in sorted(common)
            if run.settings.get(name) != common[name]
        )
        start = starts.get(victim, curve.iloc[0])
        points = measured[measured["epoch"] > 0]
        made.append(Cleaning(victim, run.method, run.settings, changes, start, points))
    return made


def best_below(points: pd.DataFrame, limit: float) -> "pd.Series[Any] | None":
    """Return the point with the highest CA among those with an ASR below ``limit``."""
    below = points[points[ATTACK] < limit]
    return None if below.empty else highest(below)


def highest(points: pd.DataFrame) -> "pd.Series[Any]":
    """Return the point with the highest CA; among equal CAs, the lowest ASR."""
    # A stable sort, so that equal points do not depend on the version of pandas.
    return points.sort_values([CLEAN, ATTACK], ascending=[False, True], kind="stable").iloc[0]


def _loss(settings: Mapping[str, Any]) -> str:
    # A weight of 0 takes a term out of the loss; the default is 1.
    return "_".join(name for name in ("mmcl", "ssl") if settings.get(f"{name}_weight", 1.0))


def _usual(settings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the most common value of each setting but the rate; of equal counts, the smallest."""
    counts: dict[str, Counter[Any]] = defaultdict(Counter)
    for name, value in chain.from_iterable(values.items() for values in settings):
        counts[name][value] += 1
    counts.pop("lr", None)  # the rate is what a sweep varies
    return {
        name: min(counted, key=lambda value: (-counted[value], value))
        for name, counted in counts.items()
    }
