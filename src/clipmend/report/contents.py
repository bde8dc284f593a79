"""The one list of what the report has: tables, figures, claims and files, in page order.

To add a table, write ``tables/<name>.py`` with ``TITLE`` and ``section(results)``; for a figure
``figures/<name>.py`` with ``TITLE``, ``CAPTION`` (what it shows, and what n is; a string literal),
``EMPTY`` (the text in place of a figure without data) and ``plot(results)``, which returns None
without data; for a claim ``claims/<name>.py`` with ``CLAIM`` and ``check(tables)``. Then import it
here, at its position on the page. The workflow, the page and the tests read this list, so it
imports nothing heavy before it is asked for the modules.
"""

import ast
from pathlib import Path
from types import ModuleType
from typing import cast

FIGURES = {
    "ca_vs_asr": "Comparison",
    "detector_roc": "Detection",
    "similarity": "Detection",
    "gallery": "Attacks",
    "estimates": "Attacks",
    "persistence": "Comparison",
    "curves": "Training",
}
"""Figure -> its category in Snakemake's own report. Each is an SVG and a PNG."""

FILES = (
    "cells.csv",
    "table.csv",
    "table.md",
    "attacks.csv",
    "detectors.csv",
    "model_scores.csv",
    "inputs.csv",
    "findings.json",
    "claims.json",
    "metrics.json",
    "cards.jsonl",
    "code.json",
)
"""The files that the page links to. Beside them are the figures and ``index.html``."""


# Imported by name: the key of the report covers what these functions import literally. Their only
# local names are the modules, in page order.
def tables() -> dict[str, ModuleType]:
    """Return the module of each table, in page order."""
    from clipmend.report.tables import (  # noqa: F401  # isort: skip
        comparison,
        changes,
        attacks,
        defenses,
        robustness,
        detectors,
        findings,
        claims,
        model_scores,
        input_scores,
    )

    return dict(locals())


def figures() -> dict[str, ModuleType]:
    """Return the module of each figure, in page order."""
    from clipmend.report.figures import (  # noqa: F401  # isort: skip
        ca_vs_asr,
        detector_roc,
        similarity,
        gallery,
        estimates,
        persistence,
        curves,
    )

    return dict(locals())


def claims() -> dict[str, ModuleType]:
    """Return the module of each claim, in page order."""
    from clipmend.report.claims import (  # noqa: F401  # isort: skip
        ubt_lowest_asr,
        ssl_survives_cleanclip,
        ssl_survives_every_epoch,
        accuracy_hardens_removal,
        few_poisons_defeat_cleanclip,
        adversarial_resembles_trigger,
        pud_identifies_poison,
        pud_beats_repairs,
        pud_beats_filters,
        badclip_outlives_repairs,
        density_degrades_on_badclip,
        par_removes_structured_triggers,
        cleanclip_blinds_to_triggered_images,
        invertune_removes_backdoors,
    )

    return dict(locals())


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
        files[name].write_text(
            f"{cast(str, ast.literal_eval(values['CAPTION']))}\n", encoding="utf-8"
        )
    return files
