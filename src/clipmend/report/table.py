"""Printed tables: a data frame of text, a mask of what is bold, and one printer each for two forms.

Numbers are printed in percent, a mean with its interval in brackets: ``99.9 (99.8 to 100.0)``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from clipmend.report.cells import groups
from clipmend.report.markup import in_markdown
from clipmend.report.order import is_poisoned

NAMES = ("corpus", "attack", "objective", "seed")


@dataclass(frozen=True)
class Table:
    """A table as it is printed.

    Attributes:
        text: the entries, all of them text. Two columns may share a heading.
        bold: which entries are bold, of the same shape; None for none.
    """

    title: str
    text: pd.DataFrame
    bold: np.ndarray[Any, np.dtype[np.bool_]] | None = None

    @classmethod
    def of(cls, title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
        """Return a table of these rows, without bold entries."""
        # By position, not by name: two columns may share a heading.
        return cls(title, pd.DataFrame(list(rows), columns=list(header), dtype=object))

    @property
    def header(self) -> tuple[str, ...]:
        """The headings of the columns."""
        return tuple(self.text.columns)

    @property
    def rows(self) -> list[list[tuple[str, bool]]]:
        """The rows of (text, whether it is bold)."""
        bold = np.zeros(self.text.shape, bool) if self.bold is None else self.bold
        return [
            [(str(text), bool(mark)) for text, mark in zip(texts, marks, strict=True)]
            for texts, marks in zip(self.text.to_numpy(), bold, strict=True)
        ]


@dataclass(frozen=True)
class Section:
    """What one file of ``tables/`` adds to the report.

    Attributes:
        title: the heading. Without tables the heading is left out.
        tables: the tables below it.
        notes: what a reader of the tables must know, a line each.
        definitions: metric -> meaning, for the metrics that only these tables have.
        details: the claim -> how it is checked; folded up on the page.
        kind: the style of the tables on the page: "" for numbers, "words" for sentences.
        page_only: whether ``table.md`` leaves the section out.
    """

    title: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    page_only: bool = False


def markdown(sections: Iterable[Section]) -> str:
    """Return ``table.md``: the tables of all sections, then their notes."""
    parts: list[str] = []
    notes: list[str] = []
    for section in sections:
        if section.page_only:
            continue
        parts += [f"# {section.title}"] if section.tables else []
        for table in section.tables:
            parts += [f"## {in_markdown(table.title)}", markdown_table(table)]
        notes += section.notes
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Return one table; every column but the first is right-aligned."""
    lines = [
        tuple(map(in_markdown, table.header)),
        ("---", *["--:"] * (len(table.header) - 1)),
    ]
    lines += [
        tuple(f"**{in_markdown(text)}**" if bold else in_markdown(text) for text, bold in row)
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def victims_table(
    title: str,
    victims: pd.DataFrame,
    poisoned: Mapping[str, str],
    unpoisoned: Mapping[str, str],
    form: str = ".1f",
) -> Table:
    """Return a row per method: means over poisoned victims, then over unpoisoned ones.

    Args:
        victims: a row per victim and method, as ``per_victim`` returns them.
        poisoned: heading -> metric, of poisoned victims.
        unpoisoned: heading -> metric, of unpoisoned victims.
        form: the format of a number.
    """
    rows = []
    for (method,), own in groups(victims, "method"):
        row = [method_label(method, control=bool(own["control"].iloc[0]))]
        hit = own["attack"].map(is_poisoned)
        for part, metrics in ((own[hit], poisoned), (own[~hit], unpoisoned)):
            row += [str(len(part)), *(lowest_to_highest(part[m], form) for m in metrics.values())]
        rows.append(row)
    header = ("method", "poisoned victims", *poisoned, "unpoisoned victims", *unpoisoned)
    return Table.of(title, header, rows)


def method_label(method: str, *, control: bool) -> str:
    """Return the name of a method, with a dagger if it is a control."""
    return f"{method}†" if control else method


def tenths(fraction: float) -> float:
    """Return a percentage as it is printed: entries that look equal are ranked equal."""
    return float(f"{100 * fraction:.1f}")


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, and "" for None."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


def whole(count: int | None) -> str:
    """Return a count with thousands separators, and "" for None."""
    return "" if count is None else f"{count:,}"


def with_interval(row: Mapping[str, Any], metric: str) -> str:
    """Return a row's mean in percent, with its interval over seeds; "" for a missing value."""
    if row.get(metric) is None:
        return ""
    ends = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return _range(row[metric], () if None in ends else ends)


def lowest_to_highest(fractions: "pd.Series[float]", form: str = ".1f") -> str:
    """Return the mean in percent, with the lowest and the highest of several; "" for none."""
    known = fractions.dropna()
    if known.empty:
        return ""
    return _range(known.mean(), (known.min(), known.max()) if len(known) > 1 else (), form)


def _range(mean: float, ends: Iterable[Any], form: str = ".1f") -> str:
    # Adding 0.0 turns -0.0 into 0.0: a change of "-0.0" points would be no change.
    text, *around = (f"{round(100 * value, 1) + 0.0:{form}}" for value in (mean, *ends))
    return f"{text} ({' to '.join(around)})" if around else text
