"""``cards.jsonl``: the proof of every cell, gathered in one small file that git keeps."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from clipmend.cards import CARD, canonical, names
from clipmend.job import Input


def cards_lines(inputs: Iterable[Input]) -> str:
    """Return a line per cell, sorted by cell: its card, with the MD5 of every file beside it.

    MD5 is what DVC knows a file by; the card itself has one too, as DVC lists it with the rest.
    """
    lines = [
        canonical(
            {
                **json.loads((given.folder / CARD).read_text(encoding="utf-8")),
                "md5": _md5s(given.folder),
            }
        )
        for given in sorted(inputs, key=lambda given: given.cell)
    ]
    return "".join(f"{line}\n" for line in lines)


def _md5s(folder: Path) -> dict[str, str]:
    return {name: _md5(folder / name) for name in names(folder)}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
