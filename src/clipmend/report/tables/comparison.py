"""Clean accuracy (CA) and attack success rate (ASR) of every method under every attack."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipmend.methods.sources.bad_rows import summary_of
from clipmend.report.cells import ATTACK, CLEAN, FOUND, SHORT, TARGET, groups, records
from clipmend.report.order import UNDEFENDED, attack_order, is_poisoned, method_order, under
from clipmend.report.results import Results
from clipmend.report.table import Section, Table, method_label, tenths, with_interval

TITLE = "Clean accuracy (CA) and attack success rate (ASR), in percent"
_ACROSS = 12  # columns of numbers, as many as a page is wide


def section(results: Results) -> Section:
    """Return tables per corpus and objective, methods down and attacks across.

    An objective has several tables if its attacks do not fit side by side.
    """
    tables = []
    for (corpus, objective), rows in groups(results.means, "corpus", "objective"):
        parts = list(_parts(rows))
        for attacks, part in parts:
            names = f": {', '.join(attacks)}" if len(parts) > 1 else ""
            tables.append(_table(f"{corpus}, {objective}{names}", part))
    return Section(TITLE, tables, _notes(results), results.definitions)


def _columns(means: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return (heading, attack, trigger, metric): an attack's CA once, then its ASR by trigger."""
    columns = []
    pairs = sorted(set(zip(means["attack"], means["trigger"], strict=True)))
    for attack in sorted({attack for attack, _ in pairs}, key=attack_order):
        triggers = [trigger for other, trigger in pairs if other == attack]
        columns.append((f"{attack} CA", attack, triggers[0], CLEAN))
        columns += [(f"{attack} ASR{under(attack, t)}", attack, t, ATTACK) for t in triggers]
    return columns


def _parts(means: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Yield the attacks that fit side by side, and their rows; an attack is never cut in two."""
    names: list[str] = []
    for attack in sorted(set(means["attack"]), key=attack_order):
        together = means[means["attack"].isin([*names, attack])]
        if names and len(_columns(together)) > _ACROSS:
            yield names, means[means["attack"].isin(names)]
            names = []
        names.append(attack)
    yield names, means[means["attack"].isin(names)]


def _table(title: str, means: pd.DataFrame) -> Table:
    rows = records(means)
    cells = {(row["attack"], row["trigger"], row["method"]): row for row in rows}
    controls = {row["method"]: row["control"] for row in rows}
    methods = sorted(controls, key=method_order)
    text = {"method": [method_label(name, control=controls[name]) for name in methods]}
    bold = [[False] * len(methods)]
    for heading, attack, trigger, metric in _columns(means):
        column = [cells.get((attack, trigger, name), {}) for name in methods]
        text[heading] = [with_interval(row, metric) for row in column]
        bold.append(_best(column, metric))
    return Table(title, pd.DataFrame(text), np.array(bold).T)


def _best(column: Sequence[Mapping[str, Any]], metric: str) -> list[bool]:
    """Return which entries of a column are the best of the repairs, as printed."""
    ranked = {
        place: tenths(row[metric])
        for place, row in enumerate(column)
        if row.get(metric) is not None
        and (metric == CLEAN or is_poisoned(row["attack"]))
        and not (row["control"] or row["method"] == UNDEFENDED)
    }
    best = (max if metric == CLEAN else min)(ranked.values(), default=None)
    # A single repair is not the best of anything.
    return [len(ranked) > 1 and ranked.get(place) == best for place in range(len(column))]


def _notes(results: Results) -> list[str]:
    cells, definitions = results.cells, results.definitions
    if cells.empty:
        return ["No cell has been evaluated."]
    seeds = sorted(set(cells["seed"]))
    over_seeds = (
        f"Means over seeds, with {results.confidence:.0%} Student-t intervals clipped to 0 and 100."
        if len(seeds) > 1
        else f"One seed has no interval over seeds; cells.csv holds the {results.confidence:.0%} "
        "Wilson interval of each cell over its test images."
    )
    idle = cells[~cells[FOUND].astype("boolean").fillna(value=True)]
    # The ASR of a model that hardly recognizes the target shows nothing.
    forgetful = cells[cells[TARGET] < cells[CLEAN] / 2] if TARGET in cells else cells.iloc[:0]
    return [
        *(
            f"{short} ({metric}): {definitions[metric]}"
            for metric, short in SHORT.items()
            if metric in definitions
        ),
        *(_sizes(str(corpus), rows) for (corpus,), rows in groups(cells, "corpus")),
        *(
            f"{cell.place.corpus}: {line}."
            for cell in results.of("download")
            if (line := summary_of(cell.folder))
        ),
        f"Seeds: {', '.join(map(str, seeds))}. {over_seeds}",
        "Bold: the highest CA and the lowest ASR of a column among the repairs, as printed. "
        "† marks a control, which uses what no defender has; it is never ranked.",
        "An `unpoisoned` victim saw no poison. Its CA is the CA of a clean model, and its ASR is "
        "the clean-model ASR under each trigger.",
        *(
            f"{methods} found nothing in {victims} and left the model as it was."
            for methods, victims in _methods_and_victims(idle)
        ),
        *(
            f"{methods} in {victims}: {SHORT[TARGET]} below half of {SHORT[CLEAN]}. "
            "A low ASR says little about a model that has forgotten the target."
            for methods, victims in _methods_and_victims(forgetful)
        ),
    ]


def _sizes(corpus: str, cells: pd.DataFrame) -> str:
    def count(values: "pd.Series[int]") -> str:
        low, high = int(values.min()), int(values.max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    parts = [
        f"CA over n = {count(cells['n_clean'])} test images",
        f"ASR over n = {count(cells['n_triggered'])} triggered images",
    ]
    own = cells.get(f"n_{TARGET}", pd.Series(dtype="Int64")).dropna()
    if len(own):
        parts.append(f"{SHORT[TARGET]} over n = {count(own)} of its images")
    return f"{corpus}: {', '.join(parts)}."


def _methods_and_victims(cells: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield methods and their victims in words; methods with the same victims share a line."""
    methods: dict[tuple[str, ...], list[str]] = {}
    for method in sorted(set(cells["method"]), key=method_order):
        victims = []
        own = cells[cells["method"] == method]
        for victim, rows in own.groupby(["corpus", "attack", "objective"], sort=False):
            seeds = [str(seed) for seed in dict.fromkeys(rows["seed"])]
            plural = "" if len(seeds) == 1 else "s"
            victims.append(f"{'/'.join(map(str, victim))} seed{plural} {', '.join(seeds)}")
        methods.setdefault(tuple(victims), []).append(f"`{method}`")
    for places, names in methods.items():
        yield _listed(names), _listed(places)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
