"""Locks for the plan, each cell and each GPU; the end of a process releases its locks.

They are files in ``.clipmend``, which a person may delete during a run. The main process therefore
locks the project's folder too, and a job checks that its lock still exists before it writes.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clipmend.engine import files
from clipmend.engine.cell import FIELDS, RESULTS
from clipmend.engine.files import HOME
from clipmend.errors import ArtifactError, BusyError, PlanError

LOCKS = HOME / "locks"
LOGS = Path("logs")
_SNAKEMAKE = Path(".snakemake")
BESIDE = (".gitignore", ".DS_Store")  # what DVC and a file manager write beside the stages
_INSIDE = {
    RESULTS: (BESIDE, tuple(FIELDS)),
    LOGS: ((*BESIDE, "report.log"), (*FIELDS, "benchmark")),
}
"""The files and the folders that these two may hold where they are links."""

PATIENCE = 10.0  # seconds; long enough for a run with nothing to do

_held: dict[Path, IO[str]] = {}
_folder: list[int] = []  # the open project folder, which the main process locks


def hold_main(patience: float | None = None) -> None:
    """Take the lock of the main process and hold it until the process ends.

    Args:
        patience: seconds to wait; None: ``CLIPMEND_PATIENCE``, or 10.

    Raises:
        BusyError: another run holds the lock; the message names its process.
        ArtifactError: a folder of the run is a link.
    """
    path = LOCKS / "main"
    if path in _held:
        return
    if patience is None:
        patience = float(os.environ.get("CLIPMEND_PATIENCE", PATIENCE))
    file = _open(path)
    if not _take(file, patience) or not _take_folder(patience):
        owner = path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
        file.close()
        raise BusyError(
            f"Another run uses this folder ({owner}); waited {patience:.0f} s. Wait until it ends; "
            "`clipmend status` works meanwhile."
        )
    _sign(file)
    _held[path] = file  # kept open: closing the file would release the lock


def _take_folder(patience: float) -> bool:
    """Lock the project's folder until the process ends; return whether it was free in time."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    _folder.append(folder)  # kept open
    try:
        return _lock(folder, patience)
    except OSError:  # a file system without locks of folders
        return True


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
def cell(name: str) -> Iterator[IO[str]]:
    """Hold the lock of one cell, waiting for a job of an earlier run that still has it."""
    with _open(_path(name)) as file:
        _take(file, float("inf"))
        _sign(file)
        yield file


def check(name: str, file: IO[str]) -> None:
    """Refuse to go on if the lock of a cell was deleted: another job may make the same cell.

    Raises:
        PlanError: the lock is gone, or it is another one.
        ArtifactError: a folder of the run is a link now.
    """
    check_folders()
    try:
        is_ours = os.path.samestat(os.fstat(file.fileno()), _path(name).stat())
    except OSError:
        is_ours = False
    if not is_ours:
        raise PlanError(
            f"{name}: {HOME} was deleted while this job ran, and its lock with it, so that another "
            "run may make the same cell. Nothing was written to results/; run `snakemake` again."
        )


def is_free(name: str) -> bool:
    """Return whether no job holds the lock of a cell at this moment."""
    path = _path(name)
    if not path.is_file():
        return True
    with _open(path) as file:
        return _take(file, 0.0)


def _path(name: str) -> Path:
    """Return the lock of a cell; file systems have no name as long as some cells'."""
    file = name.replace("/", "%")
    if len(file) > 200:
        file = hashlib.sha256(file.encode()).hexdigest()
    return LOCKS / "cells" / file


def check_folders() -> None:
    """Refuse a project whose folders of results, logs or records lead to other files.

    Raises:
        ArtifactError: a folder of records, or one of Snakemake, is a link or a file. Or ``results``
            or ``logs`` is a file, or a link to a folder with other files.
    """
    for home in (HOME, _SNAKEMAKE):
        # Behind a link, not even the names are read.
        inner = home.iterdir() if home.is_dir() and not home.is_symlink() else ()
        for folder in (home, *inner):
            if folder.is_symlink() or (folder == home and folder.is_file()):
                raise ArtifactError(
                    f"{folder} is a file or a link, behind which a run would change other files. "
                    "Make it a folder of this project."
                )
    for folder in (RESULTS, LOGS):
        if folder.is_symlink() or folder.is_file():
            _check_target(folder)


def _check_target(folder: Path) -> None:
    """Refuse ``results`` or ``logs`` as a link, unless it leads to such a folder or an empty one.

    The folder may be on another disk, where a project's own disk is small.
    """
    beside, folders = _INSIDE[folder]
    strangers = ["no folder"]
    if folder.is_dir():
        strangers = [
            path.name
            for path in sorted(folder.iterdir())
            if path.name not in beside and not (path.name in folders and path.is_dir())
        ]
    if strangers:
        raise ArtifactError(
            f"{folder} is a file or a link, behind which a run would change other files (there is "
            f"{strangers[0]}). Make it a folder of this project, or a link to an empty folder."
        )


def _open(path: Path) -> IO[str]:
    check_folders()
    files.make_folder(path.parent)
    if path.is_symlink() or not path.is_file():  # a link: another file must not be signed
        files.remove(path)
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    return os.fdopen(number, "r+", encoding="utf-8")


def _take(file: IO[str], patience: float) -> bool:
    try:
        return _lock(file, patience)
    except OSError as error:
        file.close()
        raise BusyError(
            f"{LOCKS.absolute()} cannot be locked ({error.strerror}): its file system has no "
            "flock. Mount it with flock (Lustre: `-o flock`; NFS: version 4, or a running "
            "lock daemon), or work on a local disk."
        ) from error


def _lock(file: IO[str] | int, patience: float) -> bool:
    """Lock a file or a folder; return whether it was free in time."""
    deadline = time.monotonic() + patience
    while True:
        try:
            # The kernel releases this lock when the process ends, even by SIGKILL.
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
