"""Locks for the plan, each cell and each GPU; the end of a process releases its locks."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clipmend.errors import BusyError

LOCKS = Path(".clipmend/locks")
PATIENCE = 10.0  # seconds; long enough for a run with nothing to do

_held: dict[Path, IO[str]] = {}


def hold_main(patience: float | None = None) -> None:
    """Take the lock of the main process and hold it until the process ends.

    Args:
        patience: seconds to wait; None: ``CLIPMEND_PATIENCE``, or 10.

    Raises:
        BusyError: another run holds the lock; the message names its process.
    """
    path = LOCKS / "main"
    if path in _held:
        return
    if patience is None:
        patience = float(os.environ.get("CLIPMEND_PATIENCE", PATIENCE))
    file = _open(path)
    if not _take(file, patience):
        file.close()
        owner = path.read_text(encoding="utf-8").strip() or "another process"
        raise BusyError(
            f"Another run uses this folder ({owner}); waited {patience:.0f} s. Wait until it ends; "
            "`clipmend status` works meanwhile."
        )
    _sign(file)
    _held[path] = file  # kept open: closing the file would release the lock


def hold(name: str) -> bool:
    """Take a lock and hold it until the process ends; return whether it was free."""
    file = _open(LOCKS / name)
    if not _take(file, 0.0):
        file.close()
        return False
    _sign(file)
    _held[LOCKS / name] = file
    return True


@contextmanager
def cell(name: str) -> Iterator[None]:
    """Hold the lock of one cell, waiting for a job of an earlier run that still has it."""
    with _open(LOCKS / "cells" / name.replace("/", "%")) as file:
        _take(file, float("inf"))
        _sign(file)
        yield


def is_free(name: str) -> bool:
    """Return whether no job holds the lock of a cell at this moment."""
    path = LOCKS / "cells" / name.replace("/", "%")
    if not path.exists():
        return True
    with path.open("r+", encoding="utf-8") as file:
        return _take(file, 0.0)


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.open("r+", encoding="utf-8")


def _take(file: IO[str], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            # The kernel releases this lock when the process ends, even by SIGKILL.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        except OSError as error:
            file.close()
            raise BusyError(
                f"{LOCKS.absolute()} cannot be locked ({error.strerror}): its file system has no "
                "flock. Mount it with flock (Lustre: `-o flock`; NFS: version 4, or a running "
                "lock daemon), or work on a local disk."
            ) from error
        else:
            return True


def _sign(file: IO[str]) -> None:
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()}\n")
    file.flush()
