"""Rows of ``cells.csv`` written by hand."""

from typing import Any


def cell(
    method: str = "none", ca: float = 0.8, asr: float = 0.9, seed: int = 0, **changed: Any
) -> dict[str, Any]:
    """Return a row of a victim under its own trigger; intervals are 0.01 around rates."""
    row: dict[str, Any] = {"corpus": "scenes", "attack": "badnet", "objective": "mmcl"}
    row |= {"seed": seed, "stage": "pretrain" if method == "none" else "baselines"}
    row |= {"method": method, "control": False, "needs": "", "found": None}
    for metric, rate in (("clean_accuracy", ca), ("attack_success_rate", asr)):
        row |= {metric: rate, f"{metric}_low": rate - 0.01, f"{metric}_high": rate + 0.01}
    row |= {"n_clean": 100, "n_triggered": 90, **changed}
    return {"trigger": row["attack"], **row}


def texts(table: Any) -> list[list[str]]:
    """Return the entries of a printed table."""
    return [[text for text, _ in row] for row in table.rows]
