"""``cells.csv`` and ``table.csv``: their columns, the order of their rows, means over seeds.

CA is the clean accuracy and ASR the attack success rate, both as fractions.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clipmend.engine.cell import Place
from clipmend.report.order import attack_order, method_order, objective_order

PAIR = ("corpus", "attack", "trigger", "objective", "seed")
"""One victim under one trigger. Methods are compared on it, over the same test images."""
VICTIM = tuple(name for name in PAIR if name != "trigger")
KEY = (*PAIR, "stage", "method")
GROUP = tuple(name for name in KEY if name != "seed")

CLEAN, ATTACK, TARGET = "clean_accuracy", "attack_success_rate", "target_accuracy"
SHORT = {CLEAN: "CA", ATTACK: "ASR", TARGET: "CA of the target"}
"""Metric -> its heading in tables. A metric without a heading stays in the CSV files."""
COUNTS = {CLEAN: "n_clean", ATTACK: "n_triggered"}
"""Metric -> the column of its number of images; other metrics have ``n_<metric>``."""
FOUND = "found"
ROBUST, ENSEMBLE = "robust_accuracy", "robust_accuracy_ensemble"
"""Accuracy under adversarial examples, the second of an ensemble; columns end in ``_eps<k>``."""

COLUMNS = (
    *KEY,
    "control",
    "needs",
    *(f"{CLEAN}{end}" for end in ("", "_low", "_high")),
    COUNTS[CLEAN],
    *(f"{ATTACK}{end}" for end in ("", "_low", "_high")),
    COUNTS[ATTACK],
)
"""The columns of every ``cells.csv``. Other metrics follow by name, then ``found``, then those of
``evaluate.further``: a run that asks for none has the columns of older runs.
"""
_FURTHER = ("image_to_text_", "text_to_image_", "linear_probe_", "swap_")

_ORDERS: dict[str, Callable[[Any], Any]] = {
    "attack": attack_order,
    "objective": objective_order,
    "method": method_order,
}


def cells_table(measured: Iterable[Mapping[str, Any]], found: Mapping[Place, bool]) -> pd.DataFrame:
    """Return ``cells.csv`` from the ``metrics.json`` of every evaluated cell.

    Args:
        measured: the contents of each ``metrics.json``.
        found: cell of a repair -> whether it found anything to unlearn.
    """
    rows = sorted(map(_row, measured), key=row_order)
    further = {column for row in rows for column in row} - {*COLUMNS, FOUND}

    def by_metric(column: str) -> tuple[str, bool, int]:
        ends = column.endswith("_low") + 2 * column.endswith("_high")
        return re.sub("^n_|_low$|_high$", "", column), column.startswith("n_"), ends

    late = sorted(filter(_is_further, further), key=by_metric)
    columns = [*COLUMNS, *sorted(further - {*late}, key=by_metric), FOUND, *late]
    fields = ("stage", *VICTIM, "method")
    for row in rows:
        row[FOUND] = found.get(Place(**{name: row[name] for name in fields}))
    return typed_cells(pd.DataFrame(rows, columns=columns))


def _is_further(column: str) -> bool:
    return column.removeprefix("n_").startswith(_FURTHER)


def _row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``cells.csv``: each rate with its interval and its number of images."""
    row = {name: metrics[name] for name in (*KEY, "control")}
    row["needs"] = "+".join(metrics["needs"])
    for name, value in metrics.items():
        if isinstance(value, Mapping) and "value" in value:
            row[name] = value["value"]
            row |= {f"{name}_{end}": value[end] for end in ("low", "high") if end in value}
            if "n" in value:
                row[COUNTS.get(name, f"n_{name}")] = value["n"]
        elif name not in row and isinstance(value, int | float):
            row[name] = value
    return row


def row_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the rows of ``cells.csv`` are sorted by."""
    names = ("corpus", "attack", "objective", "trigger", "seed", "method", "stage")
    return tuple(_ORDERS[name](row[name]) if name in _ORDERS else row[name] for name in names)


def typed_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return ``cells.csv`` with whole numbers for counts and ``found`` as a boolean."""
    # A cell may lack a further metric. Its count is then empty, and the others stay integers.
    counts = {name: "Int64" for name in cells.columns if name.startswith("n_")}
    return cells.astype(counts | {FOUND: "boolean"})


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for a missing value."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def groups(table: pd.DataFrame, *by: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Return (values of ``by``, their rows) in the order of the report."""
    orders = [_ORDERS.get(name, str) for name in by]
    parts: list[tuple[Any, pd.DataFrame]] = list(table.groupby(list(by), sort=False))
    return sorted(parts, key=lambda part: [f(v) for f, v in zip(orders, part[0], strict=True)])


def controls_of(cells: pd.DataFrame) -> frozenset[str]:
    """Return the methods that are controls: they use what no defender has."""
    return frozenset(cells.loc[cells["control"].astype(bool), "method"])


def present(metrics: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """Return the metrics that at least one row has: cells of older code lack some."""
    return [metric for metric in metrics if metric in rows and rows[metric].notna().any()]


def at_epsilons(table: pd.DataFrame, metric: str) -> dict[int, str]:
    """Return the columns of a metric by epsilon: the largest change of a pixel, of 255."""
    matches = (re.fullmatch(rf"{metric}_eps(\d+)", column) for column in table.columns)
    return dict(sorted((int(match[1]), match[0]) for match in matches if match))


def per_victim(cells: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return a row per victim and method: the means over the triggers of the victim.

    A victim with several triggers then counts once, and so does an unpoisoned victim.
    """
    same = [*VICTIM, "stage", "method", "control"]
    return cells.groupby(same, sort=False)[list(metrics)].mean().reset_index()


def means_table(cells: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return ``table.csv``: means over seeds, Student-t intervals clipped to [0, 1], ``n_seeds``.

    A metric with ``_low`` and ``_high`` columns gets an interval; one seed leaves it empty.
    """
    metrics = [name for name in cells.columns if name not in (*KEY, "control", "needs", FOUND)]
    rows = [
        {
            **{name: group[name].iloc[0] for name in (*GROUP, "control", "needs")},
            **_means(group, metrics, confidence),
            "n_seeds": len(group),
        }
        for _, group in cells.groupby(list(GROUP), sort=False)
    ]
    late = [name for name in metrics if _is_further(name)]
    early = [name for name in metrics if name not in late]
    return pd.DataFrame(rows, columns=[*GROUP, "control", "needs", *early, "n_seeds", *late])


def _means(group: pd.DataFrame, metrics: Iterable[str], confidence: float) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for metric in metrics:
        if metric.startswith("n_"):
            # The test images are the same for every seed, so a count is that of one cell.
            values[metric] = group[metric].min()
        elif metric not in values:
            seeds = [float(value) for value in group[metric].dropna()]
            values[metric] = sum(seeds) / len(seeds) if seeds else None
            if f"{metric}_low" in group:
                interval = student_interval(seeds, confidence)
                low, high = np.clip(interval, 0.0, 1.0) if interval else (None, None)
                values |= {f"{metric}_low": low, f"{metric}_high": high}
    return values


def student_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return the Student-t interval of the mean of ``values``, or None for fewer than two.

    One seed does not show how seeds differ, so no interval is more honest than one of width 0.
    """
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach
