"""What a sweep of cleanings adds to the report: a figure and two tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from clipmend.engine.job import Input
from clipmend.report import pareto
from clipmend.report.canvas import save
from clipmend.report.cleaning import cleanings
from clipmend.report.page import Shown
from clipmend.report.published import NOTE, beside_published, printed_published
from clipmend.report.table import Printed

_TABLE, _PUBLISHED, _FIGURE = "pareto.csv", "pareto_published.csv", "pareto"


@dataclass(frozen=True)
class Sweep:
    """Parts of the page, and ``pareto.csv``; all empty where no cleaning was swept.

    Attributes:
        variants: the methods that its figure shows, too many for a line each in the others.
    """

    variants: frozenset[str] = frozenset()
    table: pd.DataFrame = field(default_factory=lambda: pareto.pareto_table([]))
    figures: Sequence[Shown] = ()
    tables: Sequence[Printed] = ()
    notes: Sequence[str] = ()
    definitions: dict[str, str] = field(default_factory=dict)
    downloads: tuple[str, ...] = ()


def swept(inputs: Mapping[str, Input], folder: Path) -> Sweep:
    """Return what variants of `cleanclip` reached; write it where there are such.

    Reads ``curve.csv`` of ``baselines``, and the sizes of ``trusted.parquet``, ``train.parquet``
    and ``overlay.parquet``. Writes ``pareto.csv``, ``pareto_published.csv``, and ``pareto`` as SVG
    and PNG.
    """
    found = cleanings(inputs)
    if not found:
        return Sweep()
    table = pareto.pareto_table(found)
    published = beside_published(table, inputs)
    for name, rows in ((_TABLE, table), (_PUBLISHED, published)):
        rows.to_csv(folder / name, index=False, lineterminator="\n")
    save(pareto.draw_pareto(found), folder, _FIGURE)
    drawn = (folder / f"{_FIGURE}.svg").read_bytes()
    runs = [run for one in found for run in one.runs]
    return Sweep(
        variants=frozenset(run.method for run in runs if "@" in run.method),
        table=table,
        figures=[Shown(_FIGURE, "What cleaning can reach", pareto.CAPTION, drawn)],
        tables=[*pareto.printed_pareto(table), printed_published(published)],
        notes=[NOTE],
        definitions=pareto.DEFINITIONS,
        downloads=(_TABLE, _PUBLISHED),
    )
