"""The report of the cells that are made, of a run that was stopped or asked for a part only.

Writes into a new folder what ``report`` would write of the whole grid; the plan is that of the
latest run. A cell whose file was damaged or is not what the plan wants is left out.

python scripts/gather.py gathered
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from clipmend.engine import plan
from clipmend.engine.index import Index
from clipmend.engine.runner import input_of, job_of
from clipmend.errors import ClipmendError
from clipmend.stages import report as stage


def gather(folder: Path) -> None:
    """Write the report of every proven cell of the plan."""
    if folder.exists():
        raise SystemExit(f"{folder} is there already; name a folder that is not.")
    planned = plan.load()
    report = planned["report"]
    missing = plan.faults(planned.cells, Index()).keys() | {report.name}
    inputs = {name: input_of(cell) for name, cell in planned.cells.items() if name not in missing}
    folder.mkdir(parents=True)
    with TemporaryDirectory() as work:
        job = job_of(report, planned)
        stage.run(replace(job, inputs=inputs, out=folder, work=Path(work)))
    print(f"{len(inputs)} of {len(planned.cells) - 1} cells are made.")


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
