"""Locks that die with the process that holds them: for the plan, for each cell, for each GPU."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clipmend.errors import BusyError

LOCKS = Path(".clipmend/locks")
PATIENCE = 10.0  # seconds: two runs of an idle graph just follow each other

_held: dict[Path, IO[str]] = {}


def hold_main(patience: float | None = None) -> None:
    """Take the lock of the main process and keep it until the process ends.

    Raises:
        BusyError: another run holds it; the message names that process.
    """
    path = LOCKS / "main"
    if path in _held:
        return
    if patience is None:
        patience = float(os.environ.get("CLIPMEND_PATIENCE", PATIENCE))
    file = _open(path)
    if not _take(file, patience):
        file.close()
        owner = path.read_text().strip() or "another process"
        raise BusyError(
            f"Another run works on this folder ({owner}); waited {patience:.0f} s for it. "
            "Wait until it ends; `clipmend status` looks without waiting."
        )
    _sign(file)
    _held[path] = file  # kept open on purpose: closing it would give the lock away


def hold(name: str) -> bool:
    """Take a lock and keep it until the process ends; say whether it was free."""
    file = _open(LOCKS / name)
    if not _take(file, 0.0):
        file.close()
        return False
    _sign(file)
    _held[LOCKS / name] = file
    return True


@contextmanager
def cell(name: str) -> Iterator[None]:
    """Hold the lock of one cell, however long a job that outlived its run still needs."""
    with _open(LOCKS / "cells" / name.replace("/", "%")) as file:
        _take(file, float("inf"))
        _sign(file)
        yield


def is_free(name: str) -> bool:
    """Say whether no job works on a cell at this moment."""
    path = LOCKS / "cells" / name.replace("/", "%")
    if not path.exists():
        return True
    with path.open("r+") as file:
        return _take(file, 0.0)


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.open("r+")


def _take(file: IO[str], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _sign(file: IO[str]) -> None:
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()}\n")
    file.flush()
