"""Finished cells under their keys: where a cell waits while the parameters want another."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipmend.engine import cards
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import Index

STORE = Path(".clipmend/store")
DAMAGED = Path(".clipmend/damaged")


def has(key: str) -> bool:
    """Say whether a cell with this key waits in the store."""
    return (STORE / key / cards.CARD).is_file()


def put(folder: Path, card: Mapping[str, Any], index: Index) -> None:
    """Link a cell that is consistent in itself into the store, under its key.

    One that is there already is replaced: on a device that is not deterministic the later bytes
    are the ones that other cells may have read.
    """
    target = STORE / card["key"]
    if _same(folder, target, card):
        return
    fresh = STORE / f".{card['key']}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, digest in _files(folder, card, index):
        link(folder / name, fresh / name)
        index.carry(fresh / name, digest)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def restore(key: str, folder: Path, inputs: Mapping[str, Any], index: Index) -> bool:
    """Bring a cell back if the store has its key, made from exactly these inputs, undamaged."""
    card = cards.read(STORE / key)
    if card is None or card["inputs"] != inputs:
        return False
    if cards.damage(STORE / key, card, index) is not None:
        shutil.rmtree(STORE / key)
        return False
    clear(folder)
    for name, digest in _files(STORE / key, card, index):
        link(STORE / key / name, folder / name)
        index.carry(folder / name, digest)
    return True


def place(made: Path, folder: Path) -> None:
    """Move a staged cell to its place, the card last."""
    clear(folder)
    for name in sorted(cards.names(made), key=lambda name: name == cards.CARD):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / name, folder / name)


def clear(folder: Path) -> None:
    """Take away what lies in a cell's folder, the card first: without it nothing is proven."""
    (folder / cards.CARD).unlink(missing_ok=True)
    for name in cards.names(folder):
        (folder / name).unlink()


def discard(path: Path) -> None:
    """Move a file that nothing vouches for out of ``results/``, over the last of its name."""
    target = DAMAGED / path.relative_to(RESULTS)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    for parent in target.parents:
        if parent.is_file():
            parent.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # renaming onto another link of the same file does nothing
    shutil.move(path, target)


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy where the file system has no links.

    A symbolic link, as DVC may have left, is followed: what it points to is linked.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def _same(folder: Path, target: Path, card: Mapping[str, Any]) -> bool:
    """Say whether the store holds these very files under the card's key already."""
    if cards.read(target) != card:
        return False
    return all(
        (target / name).exists() and (folder / name).samefile(target / name)
        for name in card["outputs"]
    )


def _files(folder: Path, card: Mapping[str, Any], index: Index) -> list[tuple[str, str]]:
    """Return a cell's files and their hashes, the card last."""
    files = [(name, written["sha256"]) for name, written in card["outputs"].items()]
    return [*files, (cards.CARD, index.sha256(folder / cards.CARD))]
