"""Deletes and creates files and folders of our own, also where another kind of file is."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(".clipmend")


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if there is one; what a link names stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder of our own, in place of a file or a link of the same name.

    Below ``.clipmend``, this holds for the folders above it too.
    """
    for part in reversed((path, *(above for above in path.parents if HOME in above.parents))):
        if part.is_symlink() or (part.exists() and not part.is_dir()):
            part.unlink()
    path.mkdir(parents=True, exist_ok=True)


def remove_strangers(folder: Path) -> None:
    """Delete what is neither a file nor a folder below a folder of our own: links, pipes, devices.

    Behind a link, other files would be written; who opens a pipe waits for ever.
    """
    for parent, inner, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*inner, *names)):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                path.unlink()


def replace(fresh: Path, path: Path) -> None:
    """Give a finished file its name, in place of an older file, a link or a folder."""
    if path.is_dir():
        remove(path)
    fresh.replace(path)


def write(path: Path, text: str) -> None:
    """Write a text file whole, in place of a file or a link of the same name."""
    with whole(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the name of a file to write beside ``path``, and put it in its place at the end.

    So there is never a half-written file, and a link is replaced: what it names stays.

    Raises:
        IsADirectoryError: the path is a folder, such as ``.``, which has no name.
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    fresh = path.with_name(f".{path.name}.new")
    remove(fresh)
    try:
        yield fresh
        fresh.replace(path)
    finally:
        remove(fresh)
