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
    # The process number keeps two jobs that store the same key apart.
    fresh = STORE / f".{card['key']}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, digest in _files(folder, card, index):
        link(folder / name, fresh / name)
        index.carry(fresh / name, digest)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def restore(key: str, folder: Path, inputs: Mapping[str, Any], index: Index) -> bool:
    """Restore a cell if the store has its key, made from these inputs and undamaged.

    Returns:
        Whether the cell was restored.
    """
    card = cards.read(STORE / key)
    if card is None or card["inputs"] != inputs:
        return False
    if cards.damage(STORE / key, card, index) is not None:
        shutil.rmtree(STORE / key)
        return False
    clear(folder)  # a proven cell may have replaced files of another key
    for name, digest in _files(STORE / key, card, index):
        link(STORE / key / name, folder / name)
        index.carry(folder / name, digest)
    return True


def place(work: Path, folder: Path) -> None:
    """Move a finished cell from its work folder to ``results/``, the card last."""
    clear(folder)
    for name in sorted(cards.names(work), key=lambda name: name == cards.CARD):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / name, folder / name)


def clear(folder: Path) -> None:
    """Remove the files of a cell, the card first: without it nothing is proven."""
    (folder / cards.CARD).unlink(missing_ok=True)
    for name in cards.names(folder):
        (folder / name).unlink()


def discard(path: Path) -> None:
    """Move an unproven file from ``results/`` to quarantine, replacing one of the same name."""
    target = DAMAGED / path.relative_to(RESULTS)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    for parent in target.parents:
        if parent.is_file():
            parent.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a rename onto another link of the same file does nothing
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
        if not stored.exists():
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
