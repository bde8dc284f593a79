"""``table.csv`` and ``table.md``: every method over the seeds, and beside the undefended model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clipmend.report.cells import FOUND, KEY, PAIR, groups, per_victim, records
from clipmend.report.intervals import clipped, student_interval
from clipmend.report.order import UNDEFENDED, attack_order, is_poisoned, method_order, under

GROUP = tuple(name for name in KEY if name != "seed")
CLEAN, ATTACK, TARGET = "clean_accuracy", "attack_success_rate", "target_accuracy"
SHORT = {CLEAN: "CA", ATTACK: "ASR", TARGET: "CA of the target"}
_ACROSS = 12  # columns of numbers, as many as a page is wide


@dataclass(frozen=True)
class Entry:
    """One field of a printed table; ``best`` is set apart."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Printed:
    """A table as it is printed: every row is as long as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Section:
    """Printed tables under one heading.

    Attributes:
        name: the heading's address on the page.
    """

    name: str
    title: str
    tables: Sequence[Printed]


def means_table(cells: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return ``table.csv``: means over seeds, their Student-t intervals, ``n_seeds``.

    The test images are the same for every seed, so a count stays what it is in one cell.
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
    return pd.DataFrame(rows, columns=[*GROUP, "control", "needs", *metrics, "n_seeds"])


def comparison(table: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus and objective: methods down, attacks across, in percent.

    Several, if there are more attacks than fit beside one another.
    """
    printed = []
    for (corpus, objective), group in groups(table, "corpus", "objective"):
        parts = list(_parts(group))
        for names, part in parts:
            told = f": {', '.join(names)}" if len(parts) > 1 else ""
            printed.append(_compared(f"{corpus}, {objective}{told}", part))
    return printed


def changes(cells: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus: each method minus ``none`` on the same victims, in points.

    A pair is one victim under one trigger: same model to begin with, same test images. The
    changes of a victim of several triggers are averaged: it counts once.
    """
    metrics = present(SHORT, cells)
    start = cells.loc[cells["method"] == UNDEFENDED, [*PAIR, *metrics]]
    others = cells[cells["method"] != UNDEFENDED]
    paired = others.merge(start, on=list(PAIR), suffixes=("", "_start"))
    for metric in metrics:
        paired[metric] -= paired[f"{metric}_start"]
    change = per_victim(paired, *metrics)
    return [_changed(str(corpus), group) for (corpus,), group in groups(change, "corpus")]


def legend(cells: pd.DataFrame, definitions: Mapping[str, str], confidence: float) -> list[str]:
    """Return what a reader of the printed tables must know, a line each."""
    if cells.empty:
        return ["No cell has been evaluated."]
    seeds = sorted(set(cells["seed"]))
    lines = [
        f"{short} ({metric}): {definitions[metric]}"
        for metric, short in SHORT.items()
        if metric in definitions
    ]
    lines += [_sizes(str(corpus), group) for (corpus,), group in groups(cells, "corpus")]
    lines.append(
        f"Seeds: {', '.join(map(str, seeds))}. "
        + (
            f"Means over seeds, with {confidence:.0%} Student-t intervals clipped to 0 and 100."
            if len(seeds) > 1
            else f"One seed has no interval over seeds; cells.csv holds the {confidence:.0%} "
            "Wilson interval of each cell over its test images."
        )
    )
    lines.append(
        "Bold: the highest CA and the lowest ASR of a column among the repairs, as printed. "
        "† marks a control, which uses what no defender has; it is never ranked."
    )
    lines.append(
        "An `unpoisoned` victim saw no poison: its CA is the ceiling, "
        "its ASR the floor under each trigger."
    )
    return [*lines, *_unchanged(cells), *_forgotten(cells)]


def markdown(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return ``table.md``; a section without tables is left out."""
    parts = []
    for section in sections:
        parts += [f"# {section.title}"] if section.tables else []
        for table in section.tables:
            parts += [f"## {table.title}", markdown_table(table)]
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Printed) -> str:
    """Return one table; every column but the first is right-aligned."""
    lines = [table.header, ("---", *["--:"] * (len(table.header) - 1))]
    lines += [
        tuple(f"**{entry.text}**" if entry.best else entry.text for entry in row)
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def method_label(method: str, *, control: bool) -> str:
    """Return the method's name, a control's with its mark."""
    return f"{method}†" if control else method


def present(metrics: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """Return which of the metrics any row has: cells of older code have no CA of the target."""
    return [metric for metric in metrics if metric in rows and rows[metric].notna().any()]


def tenths(fraction: float) -> float:
    """Return the percentage as it is printed: what looks equal is ranked equal."""
    return float(f"{100 * fraction:.1f}")


def with_interval(row: Mapping[str, Any], metric: str) -> str:
    """Return a row's mean in percent, with its interval over seeds if it has one."""
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    return _ranging(row[metric], None if low is None or high is None else (low, high))


def lowest_to_highest(fractions: "pd.Series[float]", form: str = ".1f") -> str:
    """Return the mean in percent, with the lowest and the highest of several; "" of none."""
    known = fractions.dropna()
    if known.empty:
        return ""
    ends = (known.min(), known.max()) if len(known) > 1 else None
    return _ranging(known.mean(), ends, form)


def _ranging(mean: float, ends: tuple[float, float] | None, form: str = ".1f") -> str:
    # + 0.0: there is no loss of -0.0 points.
    said, *around = (f"{round(100 * one, 1) + 0.0:{form}}" for one in (mean, *(ends or ())))
    return f"{said} ({' to '.join(around)})" if around else said


def _means(group: pd.DataFrame, metrics: Iterable[str], confidence: float) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for metric in metrics:
        if metric.startswith("n_"):
            values[metric] = group[metric].min()
        elif metric not in values:
            seeds = [float(value) for value in group[metric].dropna()]
            values[metric] = sum(seeds) / len(seeds) if seeds else None
            if f"{metric}_low" in group:
                interval = student_interval(seeds, confidence)
                low, high = clipped(interval) if interval else (None, None)
                values |= {f"{metric}_low": low, f"{metric}_high": high}
    return values


def _parts(table: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Yield attacks that fit beside one another, and their rows; an attack stays whole."""
    names: list[str] = []
    for attack in sorted(set(table["attack"]), key=attack_order):
        beside = table["attack"].isin([*names, attack])
        if names and len(_columns(table[beside])) > _ACROSS:
            yield names, table[table["attack"].isin(names)]
            names = []
        names.append(attack)
    yield names, table[table["attack"].isin(names)]


def _compared(title: str, table: pd.DataFrame) -> Printed:
    rows = sorted(
        {(row["method"], row["stage"], row["control"]) for row in records(table)},
        key=lambda row: (method_order(row[0]), row[1]),
    )
    columns = _columns(table)
    at = {(row["attack"], row["trigger"], row["stage"], row["method"]): row
          for row in records(table)}  # fmt: skip
    printed: list[list[Entry]] = [
        [Entry(method_label(method, control=control))] for method, _, control in rows
    ]
    for _, attack, trigger, metric in columns:
        found = [at.get((attack, trigger, stage, method)) for method, stage, _ in rows]
        for entries, entry in zip(printed, _column(found, metric), strict=True):
            entries.append(entry)
    header = ("method", *(name for name, *_ in columns))
    return Printed(title, header, tuple(tuple(entries) for entries in printed))


def _columns(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return (heading, attack, trigger, metric); an attack's CA stands once."""
    columns = []
    pairs = {(row["attack"], row["trigger"]) for row in records(table)}
    for attack in sorted({attack for attack, _ in pairs}, key=attack_order):
        triggers = sorted(trigger for other, trigger in pairs if other == attack)
        columns.append((f"{attack} CA", attack, triggers[0], CLEAN))
        columns += [
            (f"{attack} ASR{under(attack, trigger)}", attack, trigger, ATTACK)
            for trigger in triggers
        ]
    return columns


def _column(found: Sequence[Mapping[str, Any] | None], metric: str) -> list[Entry]:
    ranked = [
        tenths(row[metric])
        for row in found
        if row is not None and _is_ranked(row, metric) and row[metric] is not None
    ]
    # One repair alone is not the best of anything.
    best = (max if metric == CLEAN else min)(ranked) if len(ranked) > 1 else None
    return [
        Entry("")
        if row is None or row[metric] is None
        else Entry(
            with_interval(row, metric),
            best=_is_ranked(row, metric) and tenths(row[metric]) == best,
        )
        for row in found
    ]


def _is_ranked(row: Mapping[str, Any], metric: str) -> bool:
    worth_ranking = metric == CLEAN or is_poisoned(row["attack"])
    return worth_ranking and not row["control"] and row["method"] != UNDEFENDED


def _changed(title: str, change: pd.DataFrame) -> Printed:
    poisoned = change["attack"].map(is_poisoned)
    metrics = present(SHORT, change)
    rows = []
    for method in sorted(set(change["method"]), key=method_order):
        ours = change["method"] == method
        hit, clean = change[ours & poisoned], change[ours & ~poisoned]
        control = bool(change.loc[ours, "control"].iloc[0])
        rows.append(
            (
                Entry(method_label(method, control=control)),
                Entry(str(len(hit))),
                *[Entry(lowest_to_highest(hit[metric], "+.1f")) for metric in metrics],
                Entry(str(len(clean))),
                Entry(lowest_to_highest(clean[CLEAN], "+.1f")),
            )
        )
    header = (
        "method",
        "poisoned victims",
        *[f"{SHORT[metric]}, mean (lowest to highest)" for metric in metrics],
        "unpoisoned victims",
        f"{SHORT[CLEAN]}, mean (lowest to highest)",
    )
    return Printed(title, header, tuple(rows))


def _unchanged(cells: pd.DataFrame) -> list[str]:
    """Say where unlearners found nothing."""
    idle = cells[~cells[FOUND].astype("boolean").fillna(value=True)]
    return [
        f"{methods} found nothing in {victims} and left the model as it was."
        for methods, victims in _where(idle)
    ]


def _forgotten(cells: pd.DataFrame) -> list[str]:
    """Say where a model hardly knows the target: what it calls nothing, it calls no trigger."""
    if not present([TARGET], cells):
        return []
    return [
        f"{methods} in {victims}: {SHORT[TARGET]} below half of {SHORT[CLEAN]}. "
        "A low ASR says little of a model that has forgotten the target."
        for methods, victims in _where(cells[cells[TARGET] < cells[CLEAN] / 2])
    ]


def _where(cells: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield methods and the victims they are of; methods of the same victims share a line."""
    where: dict[tuple[str, ...], list[str]] = {}
    for method in sorted(set(cells["method"]), key=method_order):
        victims = cells[cells["method"] == method].groupby(
            ["corpus", "attack", "objective"], sort=False
        )
        places = tuple(f"{'/'.join(map(str, victim))} {_seeds(rows)}" for victim, rows in victims)
        where.setdefault(places, []).append(f"`{method}`")
    for places, methods in where.items():
        yield _listed(methods), _listed(places)


def _seeds(cells: pd.DataFrame) -> str:
    seeds = [str(seed) for seed in dict.fromkeys(cells["seed"])]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(seeds)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _sizes(corpus: str, cells: pd.DataFrame) -> str:
    said = [
        f"CA over n = {_count(cells['n_clean'])} test images",
        f"ASR over n = {_count(cells['n_triggered'])} triggered ones",
    ]
    own = cells.get(f"n_{TARGET}", pd.Series(dtype="Int64")).dropna()
    if len(own):
        said.append(f"{SHORT[TARGET]} over n = {_count(own)} of its images")
    return f"{corpus}: {', '.join(said)}."


def _count(values: "pd.Series[int]") -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
