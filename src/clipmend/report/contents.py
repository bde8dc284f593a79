"""The one list of what the report has: tables, figures, claims and files, in page order.

To add a table, write ``tables/<name>.py``; for a figure ``figures/<name>.py``; for a claim
``claims/<name>.py``. Then give it its two lines here, a name and an import. The workflow, the page
and the tests read this list, so it imports nothing heavy before it is asked for the modules.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipmend.report.claims.check import ClaimModule
    from clipmend.report.results import Results
    from clipmend.report.table import Section

TABLES = (
    "comparison",
    "changes",
    "attacks",
    "defenses",
    "robustness",
    "detectors",
    "findings",
    "claims",
    "model_scores",
)

FIGURES = {
    "ca_vs_asr": "Comparison",
    "detector_roc": "Detection",
    "similarity": "Detection",
    "gallery": "Attacks",
    "persistence": "Comparison",
    "curves": "Training",
}
"""Figure -> its category in Snakemake's own report. Each is an SVG and a PNG."""

CLAIMS = (
    "ubt_lowest_asr",
    "ssl_survives_cleanclip",
    "ssl_survives_every_epoch",
    "accuracy_hardens_removal",
    "few_poisons_defeat_cleanclip",
    "adversarial_resembles_trigger",
    "pud_identifies_poison",
    "pud_beats_repairs",
    "pud_beats_filters",
    "badclip_outlives_repairs",
)

FILES = (
    "cells.csv",
    "table.csv",
    "table.md",
    "attacks.csv",
    "detectors.csv",
    "model_scores.csv",
    "findings.json",
    "claims.json",
    "metrics.json",
    "cards.jsonl",
    "code.json",
)
"""The files that the page links to. Beside them are the figures and ``index.html``."""


@runtime_checkable
class TableModule(Protocol):
    """What a file of ``tables/`` defines."""

    def section(self, results: "Results") -> "Section":
        """Return the tables with their heading and notes."""


@runtime_checkable
class FigureModule(Protocol):
    """What a file of ``figures/`` defines.

    Attributes:
        TITLE: the heading on the page.
        CAPTION: what the figure shows, and what n is; a string literal.
        EMPTY: the text in place of a figure that has nothing to show.
    """

    TITLE: str
    CAPTION: str
    EMPTY: str

    def plot(self, results: "Results") -> "Figure | None":
        """Return the figure, or None if there is nothing to show."""


def tables() -> dict[str, TableModule]:
    """Return the module of each table, in page order."""
    # Imported by name, here and below: the key of the report covers what it imports literally.
    from clipmend.report import tables as folder
    from clipmend.report.tables import (  # noqa: F401  # noqa: F401
        attacks,
        changes,
        claims,
        comparison,
        defenses,
        detectors,
        findings,
        model_scores,
        robustness,
    )

    return {name: getattr(folder, name) for name in TABLES}


def figures() -> dict[str, FigureModule]:
    """Return the module of each figure, in page order."""
    from clipmend.report import figures as folder
    from clipmend.report.figures import (  # noqa: F401  # noqa: F401
        ca_vs_asr,
        curves,
        detector_roc,
        gallery,
        persistence,
        similarity,
    )

    return {name: getattr(folder, name) for name in FIGURES}


def claims() -> "dict[str, ClaimModule]":
    """Return the module of each claim, in page order."""
    from clipmend.report import claims as folder
    from clipmend.report.claims import (  # noqa: F401
        accuracy_hardens_removal,
        adversarial_resembles_trigger,
        badclip_outlives_repairs,
        few_poisons_defeat_cleanclip,
        pud_beats_filters,
        pud_beats_repairs,
        pud_identifies_poison,
        ssl_survives_cleanclip,
        ssl_survives_every_epoch,
        ubt_lowest_asr,
    )

    return {name: getattr(folder, name) for name in CLAIMS}


def write_captions(folder: Path) -> dict[str, Path]:
    """Write the caption of each figure as ``<name>.rst`` for Snakemake, and return the files.

    The captions are read from the sources, since importing the figures would import matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in FIGURES:
        source = Path(__file__).with_name("figures") / f"{name}.py"
        values = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.parse(source.read_bytes()).body
            if isinstance(node, ast.Assign)
        }
        files[name] = folder / f"{name}.rst"
        files[name].write_text(f"{cast(str, ast.literal_eval(values['CAPTION']))}\n")
    return files
