"""The generated parts of README.md: the counts of methods, and the table of findings.

The table of the default run there is written by ``clipmend.tools.readme``.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from clipmend.errors import ArtifactError
from clipmend.methods.table import METHODS, create
from clipmend.report.cells import records
from clipmend.tools.site import sources, tables
from clipmend.tools.site.tables import markdown, percent, points

README = Path("README.md")
SHOWN = 2
"""Repairs of each kind that the README shows; the decision table has all."""
_CORPORA = {"scenes": "rendered images", "photos": "photographs"}
_NEEDS = {"train": "training pairs", "trusted": "trusted clean pairs", "train+trusted": "both"}


def pages(root: Path) -> dict[Path, str]:
    """Return README.md with its generated parts.

    Raises:
        ArtifactError: the file has no place for a part.
    """
    text = (root / README).read_text(encoding="utf-8")
    for name, part in (("counts", counts()), ("findings", findings(root))):
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, marked, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (marked and closed):
            raise ArtifactError(
                f"{README} has no place for its {name}; it needs {begin} and {end}."
            )
        text = f"{before}{begin}\n{part}\n{end}{after}"
    return {README: text}


def counts() -> str:
    """Return the numbers of methods in one line."""
    repairs = len(METHODS["unlearn"]) + len(METHODS["baselines"])
    defending = sum(
        "pretraining" in create("pretrain", name, {}).needs for name in METHODS["pretrain"]
    )
    # `unpoisoned` is the attack that changes nothing.
    return (
        f"**{len(METHODS['poison']) - 1} attacks · {len(METHODS['detect'])} detectors · "
        f"{repairs} repairs · {len(METHODS['pretrain'])} training objectives, "
        f"{defending} of them defenses · runs on two CPU cores**"
    )


def _first(repairs: pd.DataFrame) -> list[dict[str, Any]]:
    # A second length of the same method would take the place of another method.
    return records(repairs.drop_duplicates("method").head(SHOWN))


def findings(root: Path) -> str:
    """Return the best repairs of each corpus and kind of pairs, and a note."""
    header = ("corpus", "repair", "needs", "attacks", "backdoors", "change of CA", "mean ASR",
              "worst ASR", "triggered", "change on clean models")  # fmt: skip
    cells = sources.all_cells(root)
    compared = {corpus: tables.compared(cells, corpus) for corpus in _CORPORA}
    rows = [
        (title, tables.named(row["method"], row["form"]), needs, str(row["attacks"]),
         str(row["n"]), points(row["change"]), percent(row["asr"]), percent(row["worst"]),
         percent(row["triggered"]), points(row["clean_change"]))
        for corpus, title in _CORPORA.items()
        for key, needs in _NEEDS.items()
        for row in _first(compared[corpus][compared[corpus]["needs"] == key])
    ]  # fmt: skip
    note = (
        "In percent; changes in points against the same model before the repair; empty: in no "
        "committed file. *Triggered* is the share of triggered images that are classified "
        f"correctly. The best {SHOWN} repairs of each kind, by [this rule](docs/results/choose.md)."
        " `par@autoaugment` is PAR's loss on CleanCLIP's views."
    )
    failures = "; ".join(
        f"on {_CORPORA[corpus]} " + ", ".join(_failed(repairs))
        for corpus, repairs in compared.items()
    )
    worst = (
        f"Of the repairs that were tried on all {len(tables.attacks())} attacks, these fail on "
        f"some backdoors (an ASR above {100 * tables.HIGHEST:.0f} % is left): {failures}."
    )
    return f"\n{markdown(header, rows, left=3)}\n\n{note}\n{worst}\n"


def _failed(repairs: pd.DataFrame) -> list[str]:
    return [
        f"{tables.named(row['method'], row['form'])} {row['failures']} of {row['n']}"
        for row in records(repairs)
        if row["failures"] and row["on_all"]
    ] or ["none"]
