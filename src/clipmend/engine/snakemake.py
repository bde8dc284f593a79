"""The plan as the Snakefile reads it: targets, and the cards that the job of a rule reads."""

import atexit
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from clipmend.data.input_artifacts import OUTPUTS
from clipmend.engine import grid, params, plan, schema
from clipmend.engine.cards import CARD
from clipmend.engine.cell import RESULTS, Place
from clipmend.engine.garbage import permanent
from clipmend.engine.index import Index
from clipmend.engine.plan import Plan
from clipmend.engine.printing import printable
from clipmend.errors import ClipmendError, ParamsError, PlanError, line_of
from clipmend.methods.table import METHODS, scores_of

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

Wildcards = Mapping[str, str]
# Roles whose cell a setting decides.
_BY_SETTING = ("start", "detector", "model", "trigger", "clean")
_FREQUENCY = (100, 1)  # job starts, and seconds: Snakemake's default of --max-jobs-per-timespan


class Flow:
    """The plan as Snakemake reads it."""

    def __init__(self, workflow: "Workflow", config: Mapping[str, Any]) -> None:
        """Arrange ``results/`` in the main process; in a job of a cluster, read the frozen plan.

        A user's mistake ends Snakemake here, with one line and exit code 2.
        """
        # Rules call `clipmend`, which must be this environment's even if none is activated.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._workflow = workflow
        if config:
            refuse(
                ParamsError(
                    f"Snakemake got the config {', '.join(config)}; parameters come from "
                    "params.yaml alone, because DVC sees no other."
                )
            )
        with _in_one_line(), permanent():
            self._plan: Plan = plan.arrange() if workflow.is_main_process else plan.load()
        if workflow.is_main_process and "DVC_STAGE" in os.environ:
            # Not with `onsuccess`, which Snakemake leaves out where no job runs.
            atexit.register(self._confirm)

    def cards(self, stage: str | None = None) -> list[str]:
        """Return the card of every cell of a stage; of None, of all stages."""
        return [card(c.name) for c in self._plan.cells.values() if stage in (None, c.stage)]

    def outputs(self, rule: str, folder: str) -> dict[str, str]:
        """Return the files that every job of a rule writes to its folder, the card among them."""
        files = {**OUTPUTS[rule], "card": CARD}
        return {name: f"{RESULTS}/{folder}/{file}" for name, file in files.items()}

    def by_setting(self, stage: str) -> Callable[[Wildcards], dict[str, str]]:
        """Return the function that names the inputs of a job that only settings decide.

        These are the victim that another one continues (``start``) and the ``detector`` of a
        repair. Of an evaluation, they are the ``model``, the ``trigger`` and the ``clean`` model. A
        cell outside the plan is refused.
        """

        def inputs(wildcards: Wildcards) -> dict[str, str]:
            self._check_triggers()
            name = Place.of(stage, wildcards).path
            with _in_one_line():
                cell = self._plan.cells.get(name) or plan.entry(name).cell
            return {r: card(name) for r, name in cell.inputs.items() if r in _BY_SETTING}

        return inputs

    def detectors(self, *, score: str) -> str:
        """Return a pattern of the detectors that score ``pairs``, the ``model`` or ``inputs``."""
        names = [re.escape(name) for name in METHODS["detect"] if scores_of(name) == score]
        return f"(?:{'|'.join(names)})(?:@[^/]+)?" if names else "(?!)"

    def begin(self) -> None:
        """At the start of a run, drop a limit that costs much, and say what is not repeated."""
        if not self._workflow.is_main_process:
            return
        limiter = self._workflow.scheduler.job_rate_limiter
        if limiter is not None and (limiter.max_jobs, limiter.timespan) == _FREQUENCY:
            # For this limit, every finished job adds a timer that looks at the whole graph each
            # second from then on: after a hundred jobs, a tenth of a core.
            self._workflow.scheduler.job_rate_limiter = None
        settings = self._workflow.dag_settings
        if settings.forcerun or settings.forceall:
            sys.stderr.write(
                "clipmend: --forcerun and --forceall repeat no proven cell: it keeps its bytes, or "
                "gets them back from the store. `clipmend verify --rerun N` makes cells again and "
                "compares them. To replace one, delete its folder in results/, run `clipmend "
                "prune`, and run again.\n"
            )

    def _confirm(self) -> None:
        """Fail a stage of DVC if parameters, files or code were edited while it ran.

        DVC reads them after the run, and would record them with results that others made.
        """
        schema.forget()
        with _in_one_line():
            present = grid.cells(params.load(), Index())
        if present != dict(self._plan.cells):
            refuse(
                PlanError(
                    "params.yaml, a file in data/ or the code was edited while this stage ran. DVC "
                    "would record the edit with these results; run `dvc repro` again."
                )
            )

    def _check_triggers(self) -> None:
        """Refuse a run without the project's profile: other triggers would rerun proven cells."""
        # Called when a job's inputs are asked for: Snakemake has no settings before that.
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


@contextmanager
def _in_one_line() -> Iterator[None]:
    """End the process with one line if a user's mistake or an error of the user's files is met."""
    try:
        yield
    except ClipmendError as error:
        refuse(error)
    except (OSError, UnicodeError) as error:
        refuse(ClipmendError(line_of(error)))


def refuse(error: ClipmendError) -> NoReturn:
    """End the process with one line and exit code 2: Snakemake would print a traceback, and 1."""
    sys.stdout.flush()
    encoding = sys.stderr.encoding or "utf-8"  # it may lack a letter of the user's names
    sys.stderr.write(
        f"clipmend: {printable(str(error))}\n".encode(encoding, "replace").decode(encoding)
    )
    sys.stderr.flush()
    os._exit(2)  # a SystemExit would be caught by Snakemake and printed as its own failure
