"""Proven cells made again, aside, and compared byte by byte with what their cards say."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clipmend.engine import cards, plan
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import Index
from clipmend.engine.runner import device_of, environment
from clipmend.errors import ClipmendError
from clipmend.tools.audit.causes import differences

COMMAND = "remake"


def rerun(count: int) -> Iterator[tuple[bool, str]]:
    """Make ``count`` proven cells of the plan again, chosen at random.

    Corpora are left out: the web may no longer have what was downloaded.

    Yields:
        Whether all files of a cell are the same, and a line about it.

    Raises:
        ClipmendError: no cell is proven.
    """
    planned = plan.load()
    faulty = plan.faults(planned.cells, Index()).keys()
    made = {cell.name for cell in planned.cells.values() if cell.stage != "download"}
    proven = sorted(made - faulty)
    if not proven:
        raise ClipmendError("No cell in results/ is proven; `snakemake` makes them.")
    for name in random.sample(proven, min(count, len(proven))):
        began = time.monotonic()
        card = cards.read(RESULTS / name)
        assert card is not None, "a proven cell has a card"
        with TemporaryDirectory(prefix="clipmend-") as work:
            command = [sys.executable, "-m", "clipmend", COMMAND, name, work]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                yield False, f"{name} cannot be made again: {_reason(done)}"
                continue
            different = list(_differences(Path(work) / "out", card, planned.device))
        seconds = time.monotonic() - began
        files = f"the same {len(card['outputs'])} files"
        yield not different, f"{name}: {'; '.join(different) or files} ({seconds:.0f} s)"


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"its process was ended by signal {-done.returncode}"
    last = (done.stderr.strip() or "its process ended without a message").splitlines()[-1]
    return last.removeprefix("clipmend: ")


def _differences(folder: Path, card: Mapping[str, Any], device: str) -> Iterator[str]:
    """Yield the names of the files that differ, and each difference of the environments."""
    files = differences(card["outputs"], cards.outputs(folder, Index(Path("/dev/null"))))
    if not files:
        return
    yield f"other bytes in {', '.join(name for name, _, _ in files)}"
    here = environment(device_of(device), card["shared"]["arithmetic"])
    for name, was, now in differences(_flat(card["environment"]), _flat(here)):
        yield f"{name} was {was}, here {now}"


def _flat(recorded: Mapping[str, Any]) -> dict[str, str]:
    rest = {name: value for name, value in recorded.items() if name != "packages"}
    return {**rest, **recorded.get("packages", {})}
