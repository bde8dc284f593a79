"""The command line: a verb for each stage, which the rules call, and a few for people."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from clipmend.errors import FULL, ClipmendError
from clipmend.methods.table import STAGES
from clipmend.tools.standalone import request

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Poison a CLIP, then mend it. `snakemake` and `dvc repro` run the whole of it.",
)


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 2, a bug keeps its traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("clipmend").setLevel(logging.INFO)  # plain lines: what a log is to hold
    try:
        app()
    except ClipmendError as error:
        typer.echo(f"clipmend: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f" that holds {error.filename}" if error.filename else ""
        typer.echo(
            f"clipmend: The disk{where} is full. Make room and run again: what is finished stays, "
            "and what was under way goes on.",
            err=True,
        )
        sys.exit(2)


Cores = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes that decode images; default: one per core."),
]


def _verb(stage: str) -> Callable[[str, int | None], None]:
    def make(
        cell: Annotated[str, typer.Argument(help="The cell's path below results/<stage>/.")],
        cores: Cores = None,
    ) -> None:
        from clipmend.engine import runner

        runner.run(f"{stage}/{cell.strip('/')}", cores=cores)

    make.__doc__ = f"Run one {stage} job of the plan."
    return make


for _stage in STAGES[:-1]:
    if _stage != "pretrain":
        app.command(_stage)(_verb(_stage))


@app.command()
def pretrain(
    cell: Annotated[str, typer.Argument(help="The cell's path below results/pretrain/.")],
    processes: Annotated[
        int, typer.Option(min=1, help="Number of training processes, one per GPU.")
    ] = 1,
    cores: Cores = None,
) -> None:
    """Run one pretrain job of the plan."""
    from clipmend.engine import runner
    from clipmend.engine.processes import launch

    if processes > 1:
        launch(processes, ["pretrain", cell])
    else:
        runner.run(f"pretrain/{cell.strip('/')}", cores=cores)


@app.command()
def report(
    first: Annotated[
        Path | None, typer.Option("--from", help="Join this report folder with FOLDERS.")
    ] = None,
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Further report folders to join.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new folder of the joined report.")] = None,
    preset: Annotated[
        Path, typer.Option("--params", help="The parameters of the whole grid, for its gaps.")
    ] = Path("params.yaml"),
    partial: Annotated[
        Path | None, typer.Option(help="Report the cells made so far, into this new folder.")
    ] = None,
) -> None:
    """Make the report of every cell in the plan, or join the reports of parts of a grid."""
    from clipmend.engine import runner

    if partial is not None:
        from clipmend.tools.joined_report import partial_report

        typer.echo(partial_report(partial))
    elif first is not None and out is not None:
        from clipmend.tools.joined_report import join_reports

        typer.echo(join_reports([first, *(folders or [])], out, preset))
    elif first or folders or out:
        raise ClipmendError("A joined report needs --from DIR [DIR ...] and --out DIR.")
    else:
        runner.run("report")


@app.command()
def status() -> None:
    """Say what is stale, and why, without waiting for a run or changing anything."""
    from clipmend.tools import status as state

    typer.echo(state.describe())


@app.command()
def estimate(
    preset: Annotated[Path, typer.Option("--params", help="Another file of parameters.")] = Path(
        "params.yaml"
    ),
    machine: Annotated[
        str | None, typer.Option(help="Whose figures to take: cpu, a100, ... Default: this one's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run will cost before it runs: jobs, hours, disk, download; seconds, no lock."""
    from rich.console import Console

    from clipmend.engine import params
    from clipmend.tools.estimate import forecast, machines, survey, terminal

    settled = params.load(preset)
    chosen = machines.machine_named(machine or machines.usual(settled.device))
    found = forecast.estimate(survey.survey(settled), chosen, is_here=machine is None)
    if as_json:
        typer.echo(json.dumps(terminal.as_document(found), indent=1))
    else:
        terminal.show(found, Console())


@app.command()
def verify() -> None:
    """Read every file in results/ and compare it with its card; exit 1 if one differs."""
    from clipmend.tools import status as state

    damaged = state.damaged()
    for line in damaged:
        typer.echo(line)
    raise typer.Exit(1 if damaged else 0)


@app.command()
def prune(
    days: Annotated[float, typer.Option(help="Keep what was put there in the last days.")] = 0,
) -> None:
    """Empty the store and what was set aside; results/ stays."""
    from clipmend.tools import status as state

    typer.echo(state.prune(days))


@app.command()
def audit(
    a: Annotated[str, typer.Argument(help="A git revision, or a folder of results.")],
    b: Annotated[str, typer.Argument(help="Another, or the results of this folder.")] = "workspace",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with nothing folded.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the graph.")] = None,
) -> None:
    """Say which artifacts changed between two runs, and because of what; exit 1 if unexplained."""
    from rich.console import Console

    from clipmend.tools.audit import comparison, document, page, sides, terminal

    found = comparison.compare(sides.side(a), sides.side(b))
    if as_json:
        typer.echo(json.dumps(document.document(found), indent=1))
    else:
        terminal.show(found, Console())
    if html is not None:
        page.write_page(found, html)
    raise typer.Exit(1 if found.unexplained else 0)


@app.command("export-crate")
def export_crate(
    folder: Annotated[Path, typer.Argument(help="The crate: a folder that is empty, or new.")],
    artifacts: Annotated[bool, typer.Option(help="Copy all files, not the report's alone.")] = True,
) -> None:
    """Write the finished run as a Workflow Run RO-Crate."""
    from clipmend.tools import crate

    typer.echo(crate.export(folder, artifacts=artifacts))


app.command(
    "suspects", help="Rank pairs of your own by how poisoned they look to a model of your own."
)(request.command("suspects"))
app.command("mend", help="Do what `suspects` does, then make the model forget what was found.")(
    request.command("mend")
)


if __name__ == "__main__":
    main()
