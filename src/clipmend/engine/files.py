"""Deletes and creates files and folders of our own, also where another kind of file is."""

import shutil
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
        if part.is_symlink() or part.is_file():
            part.unlink()
    path.mkdir(parents=True, exist_ok=True)


def replace(fresh: Path, path: Path) -> None:
    """Give a finished file its name, in place of an older file, a link or a folder."""
    if path.is_dir():
        remove(path)
    fresh.replace(path)
