"""The command line: commands for users, and a command for each stage, which Snakemake calls."""

import importlib.metadata
import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from safetensors import SafetensorError

from clipmend.engine.printing import printable
from clipmend.errors import ClipmendError, line_of
from clipmend.methods.table import STAGES
from clipmend.tools.standalone import options

# Commands import their modules inside, since torch and snakemake take seconds to import.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Poison a CLIP, then repair it. `snakemake` and `dvc repro` run the complete pipeline.",
)
STAGE_PANEL = "Pipeline stages (called by Snakemake)"


def main() -> None:
    """Run a command. A user's mistake is one line and exit code 2; a bug keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack the letters of a caption
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Libraries log at their own levels; only our own progress belongs in the log of a job.
    logging.getLogger("clipmend").setLevel(logging.INFO)  # Snakemake keeps these lines as the log
    try:
        app(prog_name="clipmend")
    except ClipmendError as error:
        typer.echo(f"clipmend: {printable(str(error))}", err=True)
        sys.exit(2)
    except (OSError, UnicodeError) as error:
        typer.echo(f"clipmend: {printable(line_of(error))}", err=True)
        sys.exit(2)
    except SafetensorError as error:
        # Rust reports a full disk in words of its own.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        typer.echo(f"clipmend: {line_of(OSError(int(number[1]), str(error)))}", err=True)
        sys.exit(2)


def _print_version(is_asked: bool) -> bool:
    if is_asked:
        typer.echo(f"clipmend {importlib.metadata.version('clipmend')}")
        raise typer.Exit
    return False


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that come before a command."""


Cores = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes that decode images; default: one per core."),
]


def _verb(stage: str) -> Callable[[str, int | None], None]:
    def make(
        cell: Annotated[str, typer.Argument(help="Path of the cell below results/<stage>/.")],
        cores: Cores = None,
    ) -> None:
        from clipmend.engine import runner

        runner.run(f"{stage}/{cell.strip('/')}", cores=cores)

    make.__doc__ = f"Run one `{stage}` job."
    return make


def pretrain(
    cell: Annotated[str, typer.Argument(help="Path of the cell below results/pretrain/.")],
    processes: Annotated[
        int, typer.Option(min=1, help="Number of training processes, one per GPU.")
    ] = 1,
    cores: Cores = None,
) -> None:
    """Run one `pretrain` job."""
    from clipmend.engine import runner
    from clipmend.engine.processes import launch

    if processes > 1:
        launch(processes, ["pretrain", cell, *(["--cores", str(cores)] if cores else [])])
    else:
        runner.run(f"pretrain/{cell.strip('/')}", cores=cores)


# In the order of the pipeline, which is the order of the help.
for _stage in STAGES[:-1]:
    _run = pretrain if _stage == "pretrain" else _verb(_stage)
    app.command(_stage, rich_help_panel=STAGE_PANEL)(_run)


@app.command(rich_help_panel=STAGE_PANEL)
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
    """Run the `report` job, or join the reports of several runs (`--from`)."""
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
def preset(
    name: Annotated[
        str | None, typer.Argument(help="The preset. Without a name, all presets are listed.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("params.yaml"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that has values of its own.")
    ] = False,
) -> None:
    """Write params.yaml from a preset, with every setting of its methods as a comment."""
    from clipmend.tools import preset as presets

    if name is None:
        typer.echo(presets.listing())
    else:
        presets.write(name, out, force=force)


@app.command()
def settings(
    write: Annotated[
        bool,
        typer.Option("--write", help="Write docs/reference/settings.md and params.schema.json."),
    ] = False,
) -> None:
    """Print the reference of all settings, in Markdown."""
    from clipmend.tools import settings as reference

    if write:
        reference.write()
    else:
        typer.echo(reference.reference())


@app.command()
def status() -> None:
    """List the stale cells with the reason for each. Changes nothing."""
    from clipmend.tools import status as state

    typer.echo(state.describe())


@app.command()
def estimate(
    file: Annotated[
        Path, typer.Option("--params", help="Another file of parameters, or a preset's file.")
    ] = Path("params.yaml"),
    machine: Annotated[
        str | None, typer.Option(help="Use the reference times of cpu or h200.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reference: Annotated[
        Path | None, typer.Option(hidden=True, help="Write the times of this run to a CSV file.")
    ] = None,
) -> None:
    """Estimate jobs, compute hours, disk and downloads of a run without starting it."""
    from rich.console import Console

    from clipmend.engine import params
    from clipmend.tools.estimate import forecast

    asked = params.load(file)
    if reference is not None:
        typer.echo(forecast.record(asked, reference, machine or "cpu"))
        return
    cost = forecast.estimate(asked, machine)
    if as_json:
        typer.echo(json.dumps(asdict(cost), indent=1))
    else:
        forecast.show(cost, Console())


@app.command()
def verify(
    again: Annotated[
        int | None,
        typer.Option("--rerun", min=1, help="Make this many cells again, aside, and compare them."),
    ] = None,
) -> None:
    """Check that every file in results/ is as its job wrote it. Exit code 1 if one is not."""
    from clipmend.tools import rerun
    from clipmend.tools import status as state

    damaged = state.damaged()
    for line in damaged:
        typer.echo(printable(line))
    all_same = not damaged
    for is_same, line in rerun.rerun(again) if again and all_same else ():
        typer.echo(line)
        all_same &= is_same
    raise typer.Exit(0 if all_same else 1)


@app.command(hidden=True)
def remake(
    cell: Annotated[str, typer.Argument(help="Path of the cell below results/.")],
    folder: Annotated[Path, typer.Argument(help="An empty folder.")],
) -> None:
    """Make one cell again in another folder, for `verify --rerun`."""
    from clipmend.engine import runner

    runner.remake(cell, folder)


@app.command()
def prune(
    days: Annotated[float, typer.Option(help="Keep entries younger than this many days.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Delete stored and damaged cells. results/ is not touched."""
    from clipmend.tools import status as state

    which = f"older than {days:g} days" if days else "of every age"
    if not yes:
        if not sys.stdin.isatty():
            raise ClipmendError("`clipmend prune` cannot ask without a terminal; add --yes.")
        typer.confirm(f"Delete stored and damaged cells {which}?", abort=True)
    typer.echo(state.prune(days))


@app.command()
def audit(
    a: Annotated[str, typer.Argument(help="A git revision or a folder of results.")],
    b: Annotated[
        str, typer.Argument(help="Another one; default: the results in this folder.")
    ] = "workspace",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every cell.")] = False,
    graph: Annotated[
        Path | None, typer.Option(help="Also write a Markdown file with a Mermaid graph.")
    ] = None,
) -> None:
    """Explain which cells changed between two runs. Exit code 1 if a change has no cause."""
    from rich.console import Console

    from clipmend.tools.audit import comparison, sides, terminal

    compared = comparison.compare(sides.side(a), sides.side(b))
    if as_json:
        typer.echo(json.dumps(compared.document(), indent=1))
    else:
        terminal.show(compared, Console())
    if graph is not None:
        terminal.write_graph(compared, graph)
    raise typer.Exit(1 if compared.unexplained else 0)


@app.command("export-crate")
def export_crate(
    folder: Annotated[
        Path, typer.Argument(help="Output directory; it must be empty or not exist.")
    ],
    artifacts: Annotated[
        bool, typer.Option(help="Copy all files, or those of the report only.")
    ] = True,
) -> None:
    """Write the finished run as a Workflow Run RO-Crate."""
    from clipmend.tools import crate

    typer.echo(crate.export(folder, artifacts=artifacts))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new folder, or that of a demo.")] = Path("demo"),
    victim: Annotated[
        str | None,
        typer.Option(
            metavar="CELL",
            help="A finished victim in results/ to use, such as scenes/badnet/mmcl/seed0.",
        ),
    ] = None,
) -> None:
    """Poison and train a small model, then find, repair and measure it. Takes a few minutes."""
    from clipmend.tools import demo as tour

    for line in tour.demo(folder, victim):
        typer.echo(line)


@app.command("export-pairs")
def export_pairs(
    cell: Annotated[str, typer.Argument(help="Path of a finished cell below results/.")],
    out: Annotated[Path, typer.Option(help="The new parquet file.")] = Path("pairs.parquet"),
) -> None:
    """Write the training pairs of a cell, poison in place, as `suspects` and `mend` read them."""
    from clipmend.tools import export_pairs as pairs

    typer.echo(pairs.export_pairs(cell, out))


for _name, _help in {
    "suspects": "Rank your own pairs by how suspect they are to your own model. Changes nothing.",
    "mend": "Rank your own pairs as `suspects` does, and repair the model if there is a finding.",
}.items():
    app.command(_name, help=_help)(options.command(_name))


if __name__ == "__main__":
    main()
