"""The README's table and times, from a finished run: ``python -m clipmend.report.readme``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipmend.errors import ArtifactError, ClipmendError
from clipmend.report.cells import controls_of, records
from clipmend.report.order import attack_order, is_poisoned, method_order, objective_order
from clipmend.report.table import Entry, Printed, markdown_table, means_table

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
_STAGES = ("download", "poison", "pretrain", "detect", "unlearn", "baselines", "evaluate", "report")
_CONFIDENCE = 0.95


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the README's table, or check it, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clipmend.report.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    given = parser.parse_args(arguments)
    try:
        return _check(given.root) if given.check else _write(given.root)
    except ClipmendError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def compact_table(cells: pd.DataFrame) -> str:
    """Return methods down, attack and objective across, each "CA / ASR" in percent, and a note."""
    table = means_table(cells, _CONFIDENCE)
    columns = sorted(
        {(row["attack"], row["objective"]) for row in records(table)},
        key=lambda column: (attack_order(column[0]), objective_order(column[1])),
    )
    controls = controls_of(cells)
    rows = [
        (
            Entry(f"`{method}`{'†' if method in controls else ''}"),
            *(Entry(_rates(table, method, attack, objective)) for attack, objective in columns),
        )
        for method in sorted(set(table["method"]), key=method_order)
    ]
    header = ("method", *(f"{attack}, {objective}" for attack, objective in columns))
    return f"{markdown_table(Printed('', header, tuple(rows)))}\n\n{_note(cells)}"


def times_table(logs: Path) -> str:
    """Return the wall time and the largest memory of each stage; empty without benchmark files.

    Reads Snakemake's ``<logs>/<stage>/**/*.tsv``, columns ``s`` and ``max_rss`` (MiB).
    """
    files = [(path.relative_to(logs).parts[0], path) for path in sorted(logs.rglob("*.tsv"))]
    rows = []
    for stage in _STAGES:
        runs = [pd.read_csv(path, sep="\t", na_values=["-"]) for name, path in files
                if name.removesuffix(".tsv") == stage]  # fmt: skip
        if runs:
            joined = pd.concat(runs)
            seconds, memory = joined["s"].sum(), pd.to_numeric(joined["max_rss"]).max()
            rows.append(
                (
                    Entry(stage),
                    Entry(str(len(runs))),
                    Entry(_clock(float(seconds))),
                    Entry("" if pd.isna(memory) else f"{memory:,.0f} MiB"),
                )
            )
    header = ("stage", "jobs", "time, all jobs", "memory, largest job")
    return markdown_table(Printed("", header, tuple(rows))) if rows else ""


def _rates(table: pd.DataFrame, method: str, attack: str, objective: str) -> str:
    here = (table["method"] == method) & (table["attack"] == attack)
    found = table[here & (table["objective"] == objective)]
    if found.empty:
        return ""
    # An unpoisoned victim has a row per trigger: its floor is no higher than the highest.
    accuracy, success = found["clean_accuracy"].mean(), found["attack_success_rate"].max()
    return f"{100 * accuracy:.1f} / {100 * success:.1f}"


def _note(cells: pd.DataFrame) -> str:
    seeds = cells["seed"].nunique()
    clean, triggered = cells["n_clean"].min(), cells["n_triggered"].min()
    floor = not all(map(is_poisoned, cells["attack"]))
    return (
        f"Clean accuracy / attack success rate in percent, over n = {clean:,} clean and "
        f"{triggered:,} triggered test images, "
        + (f"means over {seeds} seeds." if seeds > 1 else "one seed.")
        + (" `unpoisoned`: ASR under the trigger that fools it most." if floor else "")
        + (" † a control: it uses what no defender has." if cells["control"].any() else "")
    )


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"


def _write(root: Path) -> int:
    before, _, after = _parts(root / "README.md")
    times = times_table(root / "logs" / "benchmark")
    block = "\n\n".join(part for part in (_table_of(root), times) if part)
    (root / "README.md").write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}", encoding="utf-8")
    return 0


def _check(root: Path) -> int:
    _, block, _ = _parts(root / "README.md")
    if block.strip().startswith(_table_of(root)):
        return 0
    sys.stderr.write(
        "README.md does not show the table of results/report/cells.csv; run `make readme`.\n"
    )
    return 1


def _table_of(root: Path) -> str:
    path = root / "results" / "report" / "cells.csv"
    if not path.is_file():
        raise ArtifactError(f"{path} cannot be read: it is missing. Run `make all` first.")
    cells = pd.read_csv(path)
    if cells.empty:
        raise ArtifactError(f"{path} has no rows to show; a grid needs at least one attack.")
    return compact_table(cells)


def _parts(readme: Path) -> tuple[str, str, str]:
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    block, end, after = rest.partition(END)
    if not (begin and end):
        raise ArtifactError(f"{readme} has no place for the table; it needs {BEGIN} and {END}.")
    return before, block, after


if __name__ == "__main__":
    sys.exit(main())
