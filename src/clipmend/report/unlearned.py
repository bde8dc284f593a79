"""What unlearners found and chose, beside the truth that they could not see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clipmend.engine.job import Input
from clipmend.report.cells import finding_of
from clipmend.report.order import Victim, inputs_of, method_order, victim_of, victim_order
from clipmend.report.truth import poisoned_ids, read_frame


@dataclass(frozen=True)
class Unlearned:
    """What one unlearner made of one victim.

    Attributes:
        control: whether it is known to use what no defender has.
        settings: its own; ``detector`` names whose scores it reads.
        belief: its ``finding.json``.
        chosen: its ``chosen.parquet`` and ``is_poisoned``, a row per chosen pair.
    """

    victim: Victim
    method: str
    control: bool
    settings: Mapping[str, Any]
    finding: Mapping[str, Any]
    chosen: pd.DataFrame

    @property
    def detector(self) -> str:
        """Return whose scores it reads."""
        return str(self.settings["detector"])

    @property
    def precision(self) -> float | None:
        """Return the share of true poison among the chosen pairs; None where none were chosen."""
        return float(self.chosen["is_poisoned"].mean()) if len(self.chosen) else None


def unlearned_cells(inputs: Mapping[str, Input], controls: frozenset[str]) -> list[Unlearned]:
    """Return what every unlearner found, in the report's order.

    Reads ``finding.json`` and ``chosen.parquet`` of ``unlearn`` and, for the truth,
    ``overlay.parquet`` of ``poison``.
    """
    found = []
    for given in inputs_of(inputs, "unlearn"):
        victim = victim_of(given.cell)
        chosen = read_frame(given.folder / "chosen.parquet")
        chosen["is_poisoned"] = chosen["id"].isin(poisoned_ids(inputs, victim))
        control = given.method in controls
        found.append(
            Unlearned(victim, given.method, control, given.settings, finding_of(given), chosen)
        )
    return sorted(found, key=lambda one: (victim_order(one.victim), method_order(one.method)))
