"""The progress of a killed job: only bytes that the job wrote itself are believed.

A stage writes into its work folder without help of the engine. It ends a file by a rename, as each
checkpoint does, and Python reports every rename to the hook of this module. The hook notes the
hashes of all files in the folder. The next job deletes what has another hash.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from clipmend.engine import cards, files
from clipmend.engine.index import sha256

RECORD = "written.txt"
LIMIT = 256 << 20  # bytes of a record; a file that was written takes 65
_UNFINISHED = (".partial", ".incomplete")  # downloads, whose end checks them before the rename


class _Recorder:
    """Appends the hash of every file of a folder to a record, each time one gets its name."""

    def __init__(self, folder: Path, record: Path) -> None:
        self.folder, self._record = folder.absolute(), record.absolute()
        self._known: set[tuple[int, int, int]] = set()

    def note(self) -> None:
        """Note the files that are new or changed; a rename changes none."""
        for name in cards.names(self.folder):
            with suppress(FileNotFoundError):  # of another process, which has renamed it
                path = self.folder / name
                stat = path.stat()
                state = stat.st_ino, stat.st_size, stat.st_mtime_ns
                if state not in self._known:
                    digest = sha256(path)
                    with self._record.open("a", encoding="ascii") as record:
                        record.write(f"\n{digest}")  # first, since a kill may have cut a line
                    self._known.add(state)


_active: list[_Recorder] = []


@contextmanager
def recorded(folder: Path, record: Path) -> Iterator[None]:
    """Record inside what this process and its children write into a folder."""
    _install()
    _active.append(_Recorder(folder, record))
    try:
        yield
    finally:
        _active.pop()


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # cannot be removed, so that a process has one at most


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event != "os.rename" or not _active:
        return
    target = arguments[1]
    if isinstance(target, str | os.PathLike):
        recorder = _active[-1]
        if recorder.folder in Path(target).absolute().parents:
            recorder.note()


def remove_foreign(folder: Path, record: Path) -> None:
    """Delete the files of a work folder that are not as a job wrote them.

    An unfinished download is kept: the download checks its bytes at the end.
    """
    if record.is_symlink() or not record.is_file() or record.stat().st_size > LIMIT:
        files.remove(record)
        written = set[str]()
    else:
        written = {*record.read_bytes().decode("ascii", "replace").split()}
    for name in cards.names(folder):
        path = folder / name
        if path.suffix not in _UNFINISHED and sha256(path) not in written:
            path.unlink()
