"""``cells.csv``: one row per evaluated cell, as ``evaluate`` measured it."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from clipmend.engine.job import Input
from clipmend.report.order import attack_order, inputs_of, method_order, objective_order

PAIR = ("corpus", "attack", "trigger", "objective", "seed")
"""One victim under one trigger: on it methods are compared, on the same test images."""
VICTIM = tuple(name for name in PAIR if name != "trigger")
KEY = (*PAIR, "stage", "method")
COLUMNS = (
    *KEY,
    "control",
    "needs",
    "clean_accuracy",
    "clean_accuracy_low",
    "clean_accuracy_high",
    "n_clean",
    "attack_success_rate",
    "attack_success_rate_low",
    "attack_success_rate_high",
    "n_triggered",
)
FOUND = "found"
_ORDERS: dict[str, Callable[[Any], Any]] = {
    "attack": attack_order,
    "objective": objective_order,
    "method": method_order,
}
_COUNT = {"clean_accuracy": "n_clean", "attack_success_rate": "n_triggered"}


def cells_table(inputs: Mapping[str, Input]) -> pd.DataFrame:
    """Return ``cells.csv``, a row per ``evaluate`` cell; rates are fractions.

    Reads ``metrics.json``, and ``finding.json`` of ``unlearn``. Metrics beyond the two rates follow
    in alphabetical order; then ``found``: whether an unlearner found anything to unlearn, empty
    for all else.
    """
    rows = sorted((_row(_metrics(given)) for given in inputs_of(inputs, "evaluate")), key=_order)
    further = sorted({column for row in rows for column in row} - set(COLUMNS), key=_metric_order)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *further])
    found = {given.cell: bool(finding_of(given)["found"]) for given in inputs_of(inputs, "unlearn")}
    table[FOUND] = [found.get(_model(row)) for row in rows]
    # A cell may lack a further metric: its count is empty then, and the others stay whole numbers.
    counts = {name: "Int64" for name in table.columns if name.startswith("n_")}
    return table.astype(counts | {FOUND: "boolean"})


def finding_of(given: Input) -> dict[str, Any]:
    """Return the ``finding.json`` of a cell of ``unlearn``."""
    stated: dict[str, Any] = json.loads((given.folder / "finding.json").read_text(encoding="utf-8"))
    return stated


def definitions_of(inputs: Iterable[Input]) -> dict[str, str]:
    """Return what each metric means, in the words of the cells that measured it."""
    stated: dict[str, str] = {}
    for given in inputs:
        stated |= _metrics(given).get("definitions", {})
    return dict(sorted(stated.items(), key=lambda item: _metric_order(item[0])))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows, with None for what is missing."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def groups(table: pd.DataFrame, *by: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Return (values of ``by``, their rows), in the report's order."""
    found: list[tuple[Any, pd.DataFrame]] = list(table.groupby(list(by), sort=False))
    return sorted(
        ((tuple(key), rows) for key, rows in found),
        key=lambda group: [
            _ORDERS.get(name, str)(value) for name, value in zip(by, group[0], strict=True)
        ],
    )


def controls_of(cells: pd.DataFrame) -> frozenset[str]:
    """Return the methods that use what no defender has."""
    return frozenset(cells.loc[cells["control"].astype(bool), "method"])


def per_victim(cells: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return a row per victim and method: the means over the triggers it was measured under.

    So that a victim of several attacks at once counts once, as an unpoisoned one does.
    """
    same = [*VICTIM, "stage", "method", "control"]
    return cells.groupby(same, sort=False)[list(metrics)].mean().reset_index()


def _metrics(given: Input) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((given.folder / "metrics.json").read_text(encoding="utf-8"))
    return stated


def _row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: metrics[name] for name in (*KEY, "control")}
    row["needs"] = "+".join(metrics["needs"])
    for name, stated in metrics.items():
        if isinstance(stated, Mapping) and "value" in stated:
            row[name] = stated["value"]
            row |= {f"{name}_{end}": stated[end] for end in ("low", "high") if end in stated}
            if "n" in stated:
                row[_COUNT.get(name, f"n_{name}")] = stated["n"]
        elif name not in row and isinstance(stated, int | float):
            row[name] = stated
    return row


def _model(row: Mapping[str, Any]) -> str:
    """Return the cell that made the evaluated model; a victim's own has the method ``none``."""
    victim = "{corpus}/{attack}/{objective}/seed{seed}".format_map(row)
    return f"{row['stage']}/{victim}/{row['method']}"


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        row["corpus"],
        attack_order(row["attack"]),
        objective_order(row["objective"]),
        row["trigger"],
        row["seed"],
        method_order(row["method"]),
        row["stage"],
    )


def _metric_order(column: str) -> tuple[str, bool, int]:
    """Sort by metric; within one: value, low, high, n."""
    metric = column.removeprefix("n_").removesuffix("_low").removesuffix("_high")
    is_high = column.endswith("_high")
    return (metric, column.startswith("n_"), is_high + (is_high or column.endswith("_low")))
