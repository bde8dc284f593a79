"""The tables of the cells that are made, of a run that was stopped or asked for a part only.

Writes ``cells.csv``, ``attacks.csv``, ``detectors.csv``, ``verdicts.csv`` and ``cards.jsonl`` of
what ``results/`` holds into a folder, as ``report`` would of the whole grid; the plan is that of
the latest run.
A cell whose file was damaged or is not what the plan wants is left out.

python scripts/gather.py docs/results/full/unpoisoned
"""

import argparse
from pathlib import Path

from clipmend import plan
from clipmend.errors import ClipmendError
from clipmend.index import Index
from clipmend.job import Input, input_of
from clipmend.report.attacks import attacks_table
from clipmend.report.cards import cards_lines
from clipmend.report.cells import cells_table, controls_of
from clipmend.report.detectors import detectors_table, scored_pairs
from clipmend.report.unlearned import unlearned_cells
from clipmend.report.verdicts import judged_victims, verdicts_table


def made() -> dict[str, Input]:
    """Return every proven cell of the plan but the report, by name."""
    planned = plan.load()
    missing = plan.faults(planned.cells, Index()).keys() | {"report"}
    return {name: input_of(cell) for name, cell in planned.cells.items() if name not in missing}


def gather(folder: Path) -> None:
    """Write the tables of what is made."""
    inputs = made()
    cells = cells_table(inputs)
    scored = scored_pairs(inputs, unlearned_cells(inputs, controls_of(cells)))
    tables = {
        "cells": cells,
        "attacks": attacks_table(inputs),
        "detectors": detectors_table(scored),
        "verdicts": verdicts_table(judged_victims(inputs)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / "cards.jsonl").write_text(cards_lines(inputs.values()), encoding="utf-8")
    print(f"{len(inputs)} of {len(plan.load().cells) - 1} cells are made, {len(cells)} measured.")


def main() -> None:
    """Gather what is made into the folder that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    try:
        gather(parser.parse_args().folder)
    except ClipmendError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
