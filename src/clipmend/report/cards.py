"""``cards.jsonl`` and ``code.json``: the proof of every cell, in files small enough for git."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipmend.engine import fingerprint
from clipmend.engine.cards import CARD, canonical, names
from clipmend.engine.job import Input

_REPORT = "clipmend.stages.report"


def cards_lines(inputs: Iterable[Input]) -> str:
    """Return one line per cell, sorted by cell: its card, and the MD5 of every file beside it."""
    lines = []
    for cell in sorted(inputs, key=lambda cell: cell.cell):
        # DVC identifies a file by its MD5; it lists the card itself like any other file.
        md5 = {name: _md5(cell.folder / name) for name in names(cell.folder)}
        lines.append(f"{canonical({**_card(cell), 'md5': md5})}\n")
    return "".join(lines)


def code_parts(inputs: Iterable[Input]) -> str:
    """Return ``code.json``: module -> its digest, and a digest of each function in it.

    Covers every module in the cards of the cells, and those of the report itself.
    """
    known = dict(fingerprint.digests(_REPORT))
    for cell in inputs:
        known |= _card(cell)["code"]
    present = fingerprint.digests(*known)
    # A module that was edited since is left out: its functions of that time are unknown.
    parts = {
        module: {"digest": digest, "parts": fingerprint.parts(module)}
        for module, digest in known.items()
        if present[module] == digest
    }
    return canonical(parts, indent=0) + "\n"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _card(cell: Input) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((cell.folder / CARD).read_text(encoding="utf-8"))
    return card
