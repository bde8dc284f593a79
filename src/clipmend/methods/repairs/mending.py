"""A plan carried out: the loop, and what is written of it beside the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clipmend.methods.repairs.finding import associations, chosen_table, finding_of
from clipmend.methods.repairs.unlearner import Evidence, Unlearning
from clipmend.metrics.curve import write_curve
from clipmend.model.checkpoint import Point
from clipmend.model.fit import Hooks, fit_all


@dataclass(frozen=True)
class Mended:
    """What became of the pairs that were chosen; the model was changed in place."""

    points: Sequence[Point]
    chosen: pa.Table
    finding: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write ``curve.csv``, ``chosen.parquet`` and ``finding.json``."""
        write_curve(self.points, folder / "curve.csv")
        pq.write_table(self.chosen, folder / "chosen.parquet")
        write_finding(self.finding, folder)


def carry_out(
    plan: Unlearning, evidence: Evidence, generator: torch.Generator, hooks: Hooks
) -> Mended:
    """Unlearn what the plan says from the victim; return what became of it."""
    before = associations(evidence.victim, evidence.train, plan)
    tasks = () if plan.task is None else (plan.task,)
    points = fit_all(evidence.victim, tasks, generator, hooks)
    after = associations(evidence.victim, evidence.train, plan)
    chosen = chosen_table(evidence, plan, before, after)
    finding = finding_of(evidence, plan, before, after) | {"epochs": points[-1].epoch}
    return Mended(points, chosen, finding)


def write_finding(finding: dict[str, Any], folder: Path) -> None:
    """Write ``finding.json``."""
    (folder / "finding.json").write_text(json.dumps(finding, indent=1) + "\n")
