"""What the Snakefile asks of the plan: targets, and the cards that a rule's job reads."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from clipmend.engine import grid, plan
from clipmend.engine.cards import CARD
from clipmend.engine.plan import Plan
from clipmend.engine.store import RESULTS
from clipmend.errors import ClipmendError, ParamsError
from clipmend.methods.table import METHODS

if TYPE_CHECKING:
    from snakemake.workflow import Workflow


class Flow:
    """The plan as Snakemake reads it."""

    def __init__(self, workflow: "Workflow", config: Mapping[str, Any]) -> None:
        """Arrange ``results/`` in the main process; in a job of a cluster, read the frozen plan.

        A user's mistake ends Snakemake here, with one line and exit code 2.
        """
        # Rules call `clipmend`, which must be this environment's even where none is activated.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._workflow = workflow
        try:
            if config:
                raise ParamsError(
                    f"Snakemake was given config {', '.join(config)}; parameters come from "
                    "params.yaml alone, because DVC sees no other."
                )
            self._plan: Plan = plan.arrange() if workflow.is_main_process else plan.load()
        except ClipmendError as error:
            refuse(error)

    def cards(self, stage: str | None = None) -> list[str]:
        """Return the card of every cell, of one stage or of all."""
        return [card(c.name) for c in self._plan.cells.values() if stage in (None, c.stage)]

    def inputs(self, pattern: str) -> Callable[[Mapping[str, str]], dict[str, str]]:
        """Return the function that names a job's inputs: role -> card, by the rule's pattern."""

        def of(wildcards: Mapping[str, str]) -> dict[str, str]:
            self._check_triggers()
            try:
                cell = self._plan[pattern.format(**dict(wildcards.items()))]
            except ClipmendError as error:
                refuse(error)
            return {role: card(name) for role, name in cell.inputs.items()}

        return of

    def detectors(self, *, judge: bool) -> str:
        """Return a pattern of the detectors that judge the model, or of those that score pairs."""
        names = [re.escape(name) for name in METHODS["detect"] if grid.scores_model(name) == judge]
        return f"(?:{'|'.join(names)})(?:@[^/]+)?" if names else "(?!)"

    def _check_triggers(self) -> None:
        """Refuse a run without the project's profile: other triggers would rerun proven cells.

        Snakemake knows its settings only after the Snakefile was read.
        """
        settings = self._workflow.dag_settings
        if not self._workflow.is_main_process or settings is None:
            return
        if {str(trigger) for trigger in settings.rerun_triggers} != {"mtime"}:
            refuse(
                ParamsError(
                    "Snakemake runs with other rerun triggers than 'mtime'; use the project's "
                    "profile (--profile workflow/profiles/<name>), not --workflow-profile."
                )
            )


def card(cell: str) -> str:
    """Return the path of a cell's card."""
    return f"{RESULTS}/{cell}/{CARD}"


def refuse(error: ClipmendError) -> NoReturn:
    """End the process with one line and exit code 2: Snakemake would print a traceback, and 1."""
    sys.stdout.flush()
    sys.stderr.write(f"clipmend: {error}\n")
    sys.stderr.flush()
    os._exit(2)
