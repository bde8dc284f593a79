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
from clipmend.errors import ClipmendError
from clipmend.model import arithmetic

COMMAND = "remake"


def rerun(count: int) -> Iterator[tuple[bool, str]]:
    """Make ``count`` proven cells of the plan again, chosen at random.

    Yields:
        Whether all files of a cell are the same, and a line about it.

    Raises:
        ClipmendError: no cell is proven, or one cannot be made.
    """
    cells, index = plan.load().cells, Index()
    proven = sorted(cells.keys() - plan.faults(cells, index).keys())
    if not proven:
        raise ClipmendError("No cell in results/ is proven; `snakemake` makes them.")
    for name in random.sample(proven, min(count, len(proven))):
        began = time.monotonic()
        card = cards.read(RESULTS / name)
        assert card is not None, "a proven cell has a card"
        with TemporaryDirectory(prefix="clipmend-") as work:
            _make(name, Path(work))
            different = list(_differences(Path(work) / "out", card))
        seconds = time.monotonic() - began
        files = f"the same {len(card['outputs'])} files"
        yield not different, f"{name}: {'; '.join(different) or files} ({seconds:.0f} s)"


def _make(name: str, work: Path) -> None:
    command = [sys.executable, "-m", "clipmend", COMMAND, name, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "it ended without a message").splitlines()[-1]
        raise ClipmendError(f"{name} cannot be made again: {reason.removeprefix('clipmend: ')}")


def _differences(folder: Path, card: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the files that differ, and each difference of the environments."""
    made, written = cards.outputs(folder, Index(Path("/dev/null"))), card["outputs"]
    names = [n for n in sorted(made.keys() | written.keys()) if made.get(n) != written.get(n)]
    if not names:
        return
    yield f"other bytes in {', '.join(names)}"
    old = _flat(card["environment"])
    here = cards.environment(old["device"])
    new = _flat({**here, "arithmetic": arithmetic.describe(card["shared"]["arithmetic"])})
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name} was {old.get(name)}, here {new.get(name)}"


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
    return {**{k: v for k, v in environment.items() if k != "packages"}, **environment["packages"]}
