"""The store: finished cells under their keys, kept while the parameters ask for others."""

import os
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from clipmend.engine import cards
from clipmend.engine.cell import RESULTS
from clipmend.engine.files import make_folder, remove
from clipmend.engine.index import Index

STORE = Path(".clipmend/store")
DAMAGED = Path(".clipmend/damaged")  # quarantine for files that no card proves


def has(key: str) -> bool:
    """Return whether the store has a cell with this key."""
    return (STORE / key / cards.CARD).is_file()


def put(folder: Path, card: Mapping[str, Any], index: Index) -> None:
    """Link the files of a consistent cell into the store, under its key."""
    # An earlier cell of the key is replaced: without determinism, other cells may have read the
    # later bytes.
    target = STORE / card["key"]
    if _same(folder, target, card, index):
        return
    fresh = _aside(card["key"])
    for name, digest in _files(folder, card, index):
        link(folder / name, fresh / name)
        index.carry(fresh / name, digest)
    remove(target)
    fresh.rename(target)


def restore(key: str, folder: Path, inputs: Mapping[str, Any], index: Index) -> bool:
    """Restore a cell if the store has its key, made from these inputs and undamaged.

    The name of the stored folder proves nothing: its card must name the key and the cell, and the
    files must be those of the card.

    Returns:
        Whether the cell was restored.
    """
    stored = STORE / key
    card = cards.read(stored)
    if card is None or card["key"] != key or card["inputs"] != inputs:
        return False
    if (
        RESULTS / card["cell"] != folder
        or not cards.is_genuine(card)
        or cards.damage(stored, card, index) is not None
    ):
        remove(stored)
        return False
    fresh = _aside(key)
    for name, digest in _files(stored, card, index):
        link(stored / name, fresh / name)
        index.carry(fresh / name, digest)
    place(fresh, folder)
    return True


def drop(key: str, folder: Path) -> None:
    """Remove the folder of a stored cell from ``results/``, whole: a kill leaves no half of it."""
    gone = _aside(key)
    try:
        folder.rename(gone)
    except OSError:  # another file system
        clear(folder)
    remove(gone)


def _aside(key: str) -> Path:
    """Return an empty folder of this process for a cell on its way into the store or out of it."""
    path = STORE / f".{key}.{os.getpid()}"  # two jobs may store the same key
    make_folder(STORE)
    remove(path)
    path.mkdir()
    return path


def is_misfiled(key: str) -> bool:
    """Return whether the store has the cell of another key under this one."""
    card = cards.read(STORE / key)
    return card is not None and card["key"] != key


def refile() -> None:
    """Put each cell of the store under the key on its card, as before its folders were renamed."""
    aside: dict[Path, str] = {}
    for path in sorted(STORE.glob("[!.]*")):
        card = cards.read(path)
        if card is not None and card["key"] != path.name:
            aside[path.rename(STORE / f".{path.name}.aside")] = card["key"]
    for path, key in aside.items():
        if has(key):
            remove(path)
        else:
            remove(STORE / key)
            path.rename(STORE / key)


def place(work: Path, folder: Path) -> None:
    """Move a finished cell from its work folder to ``results/``: whole, or the card last."""
    clear(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        work.rename(folder)  # replaces an empty folder
    except OSError:  # another file system, or a file that was created meanwhile
        for name in sorted(cards.names(work), key=lambda name: name == cards.CARD):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(work / name, folder / name)
        remove(work)


def clear(folder: Path) -> None:
    """Empty the folder of a cell, the card first: without it nothing is proven."""
    make_way(folder)
    remove(folder / cards.CARD)
    for path in folder.glob("*"):
        remove(path)


def make_way(folder: Path) -> None:
    """Move a file or a link that has the name of a cell's folder, or of one above, to quarantine.

    Behind a link, files outside ``results/`` would be moved and dated.
    """
    for path in (*reversed(folder.relative_to(RESULTS).parents[:-1]), folder.relative_to(RESULTS)):
        at = RESULTS / path
        if at.is_symlink() or (at.exists() and not at.is_dir()):
            discard(at)


def discard(path: Path) -> None:
    """Move an unproven file from ``results/`` to quarantine, replacing one of the same name.

    A pipe, a socket or a device is deleted: to another disk it would be copied, without an end.
    """
    if not (path.is_symlink() or path.is_file() or path.is_dir()):
        path.unlink()
        return
    target = DAMAGED / path.relative_to(RESULTS)
    make_folder(target.parent)
    remove(target)  # a rename onto another link of the same file does nothing
    shutil.move(path, target)


def link(source: Path, target: Path) -> None:
    """Make ``target`` a hard link of ``source``, or a copy if the file system has no links.

    A symbolic link, as DVC may have left, is followed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        _say_copied()
        shutil.copy2(source, target)


@cache
def _say_copied() -> None:
    """Say, once in a process, that files are copied."""
    sys.stderr.write(
        f"clipmend: {RESULTS}/ and {STORE.parent}/ are on file systems without common links; "
        "files are copied, which takes twice the disk.\n"
    )


def _same(folder: Path, target: Path, card: Mapping[str, Any], index: Index) -> bool:
    """Return whether the store already has these files under the key of the card.

    They are links of the same files, or copies with the same content on another file system.
    """
    if cards.read(target) != card:
        return False
    for name, written in card["outputs"].items():
        own, stored = folder / name, target / name
        if not (cards.is_own(target, name) and stored.is_file()):
            return False
        if own.stat().st_dev == stored.stat().st_dev:
            if not own.samefile(stored):
                return False
        elif index.sha256(stored) != written["sha256"]:
            return False
    return True


def _files(folder: Path, card: Mapping[str, Any], index: Index) -> list[tuple[str, str]]:
    """Return the files of a cell and their hashes, the card last."""
    files = [(name, written["sha256"]) for name, written in card["outputs"].items()]
    return [*files, (cards.CARD, index.sha256(folder / cards.CARD))]
