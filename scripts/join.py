"""One table from the parts that the preset `full` was run in; what no part has is called a gap.

Reads `docs/results/full/<part>/{cells.csv,cards.jsonl}`, and `detectors.csv` where there is one;
writes `cells.csv`, `gaps.csv`, `detectors.csv`, `claims.json` and `table.md` beside the parts.
Parts whose cells were made by other code, or under other settings, are refused. Claims are judged
of what is there, as the report judges them.

python scripts/join.py [--params params/full.yaml] [--benchmark gone/logs/benchmark ...] [folder]
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clipmend.engine import grid, params
from clipmend.engine.cell import Cell, Place
from clipmend.engine.index import Index
from clipmend.errors import ClipmendError
from clipmend.report.cells import KEY, VICTIM, groups, records
from clipmend.report.claims.check import Tables
from clipmend.report.claims.outcomes import check_claims, claims_text, printed_claims
from clipmend.report.detectors import COLUMNS
from clipmend.report.order import attack_order, is_poisoned, method_order, objective_order
from clipmend.report.scale import Scale
from clipmend.report.table import ATTACK, CLEAN, Entry, Printed, markdown_table
from clipmend.tools.estimate.costs import Measurements, Timing, Work, wall_times

NAMED = ("corpus", "attack", "trigger", "objective", "seed", "method")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Cost:
    """The seconds of a whole grid; ``unlike`` jobs, which resemble no timed job, are left out."""

    measured: float
    total: float
    timed: int
    jobs: int
    unlike: int


def extrapolated(cells: Iterable[str], seconds: Mapping[str, float]) -> Cost:
    """Return the cost of cells of one set of settings: an untimed job takes what like jobs took."""
    works = {name: _work_named(name) for name in cells}
    timed = [Timing(**asdict(_work_named(name)), seconds=s) for name, s in seconds.items()]
    measured = Measurements(timed)
    known = {n: seconds.get(n) or measured.seconds(work) for n, work in works.items()}
    figures = [value for value in known.values() if value is not None]
    own = [seconds[name] for name in works if name in seconds]
    return Cost(sum(own), sum(figures), len(own), len(works), len(works) - len(figures))


def _work_named(name: str) -> Work:
    place = Place.parse(name)
    own = place.method or place.objective or place.attack
    own = "" if place.stage == "evaluate" else own
    return Work(place.stage, own, place.objective, place.corpus, 0, 1.0, 1)


@dataclass(frozen=True)
class Part:
    """What one run of a part of the grid measured, and the cards that prove it."""

    name: str
    cells: pd.DataFrame
    detectors: pd.DataFrame
    cards: Mapping[str, Mapping[str, Any]]


def read_part(folder: Path) -> Part:
    """Return a part; its cells and its cards must be there."""
    for name in ("cells.csv", "cards.jsonl"):
        if not (folder / name).is_file():
            raise SystemExit(f"{folder / name} cannot be read: it is missing. A part needs both.")
    lines = (folder / "cards.jsonl").read_text(encoding="utf-8").splitlines()
    cards = {card["cell"]: card for card in map(json.loads, lines)}
    cells = pd.read_csv(folder / "cells.csv")
    file = folder / "detectors.csv"
    detectors = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))
    return Part(folder.name, cells, detectors, cards)


def parts_of(folder: Path) -> list[Part]:
    """Return every part below a folder, sorted by name."""
    found = sorted(path.parent for path in folder.glob("*/cells.csv"))
    if not found:
        raise SystemExit(f"{folder} has no parts; a part is a folder with cells.csv, cards.jsonl.")
    return [read_part(path) for path in found]


def refuse_strangers(parts: Sequence[Part]) -> None:
    """Stop where two parts made cells of the same stage and method in another way.

    The report is left out: it measures nothing.
    """
    first: dict[tuple[str, str, str], tuple[str, Mapping[str, Any]]] = {}
    for part in parts:
        for card in part.cards.values():
            if card["stage"] == "report":
                continue
            for what in ("code", "settings", "shared", "files"):
                name = _variant(card)
                at = (card["stage"], name, what)
                owner, known = first.setdefault(at, (part.name, card[what]))
                if known != card[what]:
                    raise SystemExit(
                        f"{part.name} cannot be joined with {owner}: their cells of "
                        f"{card['stage']} {name} differ in {what}: {_differing(known, card[what])}."
                    )


def joined(parts: Sequence[Part]) -> pd.DataFrame:
    """Return the cells of all parts, in the report's order of methods; a cell of two stands once.

    Two parts that both hold a cell must have read the same bytes for it and measured the same.
    """
    proofs: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for part in parts:
        for row in records(part.cells):
            cell = cell_of(row)
            card = part.cards.get(cell)
            if card is None:
                raise SystemExit(f"{part.name} has no card for {cell}; its numbers prove nothing.")
            owner, known = proofs.setdefault(cell, (part.name, card))
            if (known["key"], known["outputs"]) != (card["key"], card["outputs"]):
                raise SystemExit(f"{part.name} cannot be joined with {owner}: {cell} differs.")
    cells = pd.concat([part.cells for part in parts], ignore_index=True)
    cells = cells.drop_duplicates(list(KEY))
    order = [_order(row) for row in records(cells)]
    places = sorted(range(len(cells)), key=order.__getitem__)
    return cells.iloc[places].reset_index(drop=True)


def scored(parts: Sequence[Part]) -> pd.DataFrame:
    """Return how well detectors rank, of all parts; a row of two stands once."""
    known = [part.detectors for part in parts if not part.detectors.empty]
    table = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=list(COLUMNS))
    return table.drop_duplicates([*VICTIM, "stage", "method"], ignore_index=True)


def scales(detectors: pd.DataFrame, parts: Sequence[Part]) -> dict[str, Scale]:
    """Return the scale of each corpus, as far as scores and cards tell it."""
    shared = (card["shared"] for part in parts for card in part.cards.values())
    started: Mapping[str, Any] = next((one for one in shared if "model" in one), {})
    return {
        str(corpus): Scale(
            train_pairs=int(group["n_pairs"].max()),
            trusted_pairs=None,
            poisoned_pairs={
                str(attack): int(rows["n_poisoned"].max())
                for (attack,), rows in groups(group, "attack")
            },
            image_size=None,
            model=started.get("model"),
            pretrained=started.get("pretrained"),
        )
        for (corpus,), group in groups(detectors, "corpus")
    }


def cell_of(row: Mapping[str, Any]) -> str:
    """Return the name of the ``evaluate`` cell of a row."""
    return "evaluate/{corpus}/{attack}/{objective}/seed{seed}/{method}/{trigger}".format_map(row)


def spanned(cells: Mapping[str, Cell]) -> list[dict[str, Any]]:
    """Return what each ``evaluate`` cell of the grid is about."""
    rows = []
    for name, cell in cells.items():
        if cell.stage == "evaluate":
            _, corpus, attack, objective, seed, method, trigger = name.split("/")
            values = (corpus, attack, trigger, objective, int(seed.removeprefix("seed")), method)
            rows.append(dict(zip(NAMED, values, strict=True)))
    return rows


def gaps(span: Sequence[Mapping[str, Any]], cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the grid that no part has."""
    have = {cell_of(row) for row in records(cells)}
    lacking = [row for row in span if cell_of(row) not in have]
    return pd.DataFrame(lacking, columns=list(NAMED))


def tables(span: Sequence[Mapping[str, Any]], cells: pd.DataFrame) -> list[Printed]:
    """Return a printed table per corpus and objective: CA / ASR in percent, means over seeds."""
    measured = {cell_of(row): row for row in records(cells)}
    shown = pd.DataFrame(span, columns=list(NAMED))
    return [
        _table(f"{corpus}, {objective}", group, measured)
        for (corpus, objective), group in groups(shown, "corpus", "objective")
    ]


def text_of(
    printed: Sequence[Printed],
    claims: Printed | None,
    parts: Sequence[Part],
    missing: pd.DataFrame,
    cost: Cost | None,
) -> str:
    """Return ``table.md``."""
    lines = ["# Clean accuracy / attack success rate, in percent"]
    lines += [part for table in printed for part in (f"## {table.title}", markdown_table(table))]
    lines += [] if claims is None else [f"# {claims.title}", markdown_table(claims)]
    notes = [
        f"Joined from {', '.join(part.name for part in parts)}. {len(missing):,} cells of the grid "
        f"are {NOT_MEASURED} ([`gaps.csv`](gaps.csv)).",
        "Means over the seeds that were measured; [k of n] says so where seeds are missing. "
        "† a control, which uses what no defender has. `unpoisoned`: ASR under the trigger that "
        "fools the model most.",
        f"Made on: {'; '.join(_environments(parts))}.",
        *([_cost_note(cost)] if cost is not None else []),
    ]
    return "\n\n".join([*lines, "\n".join(f"- {note}" for note in notes)]) + "\n"


def _table(title: str, span: pd.DataFrame, measured: Mapping[str, Mapping[str, Any]]) -> Printed:
    attacks = sorted(set(span["attack"]), key=attack_order)
    controls = {row["method"] for row in measured.values() if row["control"]}
    rows = []
    for method in sorted(set(span["method"]), key=method_order):
        ours = span[span["method"] == method]
        entries = [Entry(f"`{method}`{'†' if method in controls else ''}")]
        for attack in attacks:
            wanted = records(ours[ours["attack"] == attack])
            entries.append(Entry(_rates(wanted, measured, attack) if wanted else ""))
        rows.append(tuple(entries))
    return Printed(title, ("method", *attacks), tuple(rows))


def _rates(
    wanted: Sequence[Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]], attack: str
) -> str:
    found = pd.DataFrame([measured[cell_of(row)] for row in wanted if cell_of(row) in measured])
    if found.empty:
        return NOT_MEASURED
    clean = found.groupby("seed")[CLEAN].mean().mean()
    success = found.groupby("trigger")[ATTACK].mean().max()
    seeds = len({row["seed"] for row in wanted})
    # Of an unpoisoned victim some triggers may be missing where no seed is.
    whole = len(found) == len(wanted)
    share = "" if whole else f" [{found['seed'].nunique()} of {seeds}]"
    share = share if is_poisoned(attack) or whole else f" [{len(found)} of {len(wanted)} cells]"
    return f"{100 * clean:.1f} / {100 * success:.1f}{share}"


def _variant(card: Mapping[str, Any]) -> str:
    """Return the method of a card as the grid names it: variants differ in their settings."""
    parts = card["cell"].split("/")
    place = {"download": 1, "poison": 2, "pretrain": 3, "evaluate": 0}.get(card["stage"], 5)
    return str(parts[place]) if place else ""


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return ", ".join(names)


def _environments(parts: Sequence[Part]) -> list[str]:
    found = set()
    for part in parts:
        for card in part.cards.values():
            made = card.get("environment", {})
            packages = made.get("packages", {})
            found.add(f"{made.get('device', '?')}, {made.get('cpu', '?')}, torch "
                      f"{packages.get('torch', '?')}")  # fmt: skip
    return sorted(found)


def _cost_note(cost: Cost) -> str:
    unlike = f"; {cost.unlike:,} jobs like none that was timed are left out" if cost.unlike else ""
    return (
        f"Time: {cost.timed:,} of the grid's {cost.jobs:,} jobs were timed, "
        f"{cost.measured / 3600:.1f} hours. All of them would take {cost.total / 3600:.1f} hours, "
        "one after another: an extrapolation, every other job at the median of the timed ones "
        f"like it{unlike}."
    )


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    victim = (row["corpus"], attack_order(row["attack"]), objective_order(row["objective"]))
    return (*victim, row["trigger"], row["seed"], method_order(row["method"]), row["stage"])


def join(folder: Path, preset: Path, benchmarks: Sequence[Path]) -> None:
    """Write the joined files."""
    parts = parts_of(folder)
    refuse_strangers(parts)
    cells, detectors = joined(parts), scored(parts)
    asked = params.load(preset)
    whole = grid.cells(asked, Index())
    span = spanned(whole)
    missing = gaps(span, cells)
    cost = extrapolated(whole, wall_times(benchmarks)) if benchmarks else None
    claims = check_claims(
        Tables(cells, detectors, [], scales(detectors, parts), asked.evaluate.confidence)
    )
    for name, table in {"cells": cells, "gaps": missing, "detectors": detectors}.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / "claims.json").write_text(claims_text(claims), encoding="utf-8")
    text = text_of(tables(span, cells), printed_claims(claims), parts, missing, cost)
    (folder / "table.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Join the parts below a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/results/full"))
    parser.add_argument("--params", type=Path, default=Path("params/full.yaml"))
    parser.add_argument("--benchmark", type=Path, nargs="*", default=[], help="logs/benchmark")
    given = parser.parse_args()
    try:
        join(given.folder, given.params, given.benchmark)
    except ClipmendError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
