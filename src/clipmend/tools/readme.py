"""The table and the times of a finished run in README.md: ``python -m clipmend.tools.readme``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipmend.engine import files
from clipmend.errors import ArtifactError, ClipmendError
from clipmend.methods.table import STAGES
from clipmend.report.cells import ATTACK, CLEAN, controls_of, means_table
from clipmend.report.order import attack_order, is_poisoned, method_order, objective_order
from clipmend.report.table import Table, markdown_table
from clipmend.tools.estimate.costs import job_times

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
_CONFIDENCE = 0.95


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table of README.md, or check it, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clipmend.tools.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository")
    options = parser.parse_args(arguments)
    readme = options.root / "README.md"
    try:
        before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
        block, end, after = rest.partition(END)
        if not (begin and end):
            raise ArtifactError(f"{readme} has no place for the table; it needs {BEGIN} and {END}.")
        table = _table_of(options.root / "results" / "report" / "cells.csv")
    except ClipmendError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.check:
        times = times_table(options.root / "logs" / "benchmark")
        text = "\n\n".join(filter(None, (BEGIN, table, times, END)))
        files.write(readme, f"{before}{text}{after}")
    elif not block.strip().startswith(table):
        sys.stderr.write(
            "README.md does not show the table of results/report/cells.csv; run `make readme`.\n"
        )
        return 1
    return 0


def compact_table(cells: pd.DataFrame) -> str:
    """Return methods down, attack and objective across, each "CA / ASR" in percent, and a note.

    CA is the clean accuracy, ASR the attack success rate.
    """
    means = means_table(cells, _CONFIDENCE)
    columns = sorted(
        set(zip(means["attack"], means["objective"], strict=True)),
        key=lambda column: (attack_order(column[0]), objective_order(column[1])),
    )
    controls = controls_of(cells)
    rows = []
    for method in sorted(set(means["method"]), key=method_order):
        entries = [f"`{method}`{'†' if method in controls else ''}"]
        for attack, objective in columns:
            own = means[(means["method"] == method) & (means["attack"] == attack)]
            own = own[own["objective"] == objective]
            # An unpoisoned victim has a row per trigger; its highest ASR counts.
            rates = f"{100 * own[CLEAN].mean():.1f} / {100 * own[ATTACK].max():.1f}"
            entries.append("" if own.empty else rates)
        rows.append(entries)
    header = ("method", *(f"{attack}, {objective}" for attack, objective in columns))
    seeds = cells["seed"].nunique()
    clean, triggered = cells["n_clean"].min(), cells["n_triggered"].min()
    note = (
        f"Clean accuracy / attack success rate in percent, over n = {clean:,} clean and "
        f"{triggered:,} triggered test images, "
        + (f"means over {seeds} seeds." if seeds > 1 else "one seed.")
    )
    if not all(map(is_poisoned, cells["attack"])):
        note += " `unpoisoned`: the highest ASR under any trigger, without a backdoor."
    if cells["control"].any():
        note += " † Control: uses information that a defender does not have."
    return f"{markdown_table(Table.of('', header, rows))}\n\n{note}"


def times_table(logs: Path) -> str:
    """Return the core time and the largest memory of each stage; "" without benchmark files.

    Reads Snakemake's ``<logs>/<stage>/**/*.tsv``, column ``max_rss`` (MiB), and the times of those
    jobs that made their cell.
    """
    rows = []
    spent = job_times(logs)
    for stage in STAGES:
        files = sorted((*logs.glob(f"{stage}.tsv"), *logs.glob(f"{stage}/**/*.tsv")))
        runs = [pd.read_csv(path, sep="\t", na_values=["-"]) for path in files]
        if runs:
            own = [seconds for cell, seconds in spent.items() if Path(cell).parts[0] == stage]
            minutes, seconds = divmod(round(sum(own)), 60)
            time = f"{minutes} min {seconds:02d} s"
            if minutes >= 60:
                time = f"{minutes // 60} h {minutes % 60:02d} min"
            memory = pd.to_numeric(pd.concat(runs)["max_rss"]).max()
            largest = "" if pd.isna(memory) else f"{memory:,.0f} MiB"
            rows.append((stage, str(len(own)), time, largest))
    header = ("stage", "jobs", "core time, all jobs", "memory, largest job")
    return markdown_table(Table.of("", header, rows)) if rows else ""


def _table_of(path: Path) -> str:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing. Run `make all` first.")
    cells = pd.read_csv(path)
    if cells.empty:
        raise ArtifactError(f"{path} has no rows; a grid needs at least one attack.")
    return compact_table(cells)


if __name__ == "__main__":
    sys.exit(main())
