"""``cards.jsonl`` and ``code.json``: the proof of every cell, in small files that git keeps."""

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
    """Return a line per cell, sorted by cell: its card, with the MD5 of every file beside it.

    MD5 is what DVC knows a file by; the card itself has one too, as DVC lists it with the rest.
    """
    lines = [
        canonical(
            {
                **_card(given),
                "md5": _md5s(given.folder),
            }
        )
        for given in sorted(inputs, key=lambda given: given.cell)
    ]
    return "".join(f"{line}\n" for line in lines)


def code_parts(inputs: Iterable[Input]) -> str:
    """Return ``code.json``: module -> its digest, and a digest of each function in it.

    Of every module in the cells' cards and of the report's own. One that was edited since is left
    out: what its functions were is no longer known.
    """
    known = dict(fingerprint.digests(_REPORT))
    for given in inputs:
        known |= _card(given)["code"]
    present = fingerprint.digests(*known)
    found = {
        module: {"digest": digest, "parts": fingerprint.parts(module)}
        for module, digest in known.items()
        if present[module] == digest
    }
    return canonical(found, indent=0) + "\n"


def _card(given: Input) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((given.folder / CARD).read_text(encoding="utf-8"))
    return card


def _md5s(folder: Path) -> dict[str, str]:
    return {name: _md5(folder / name) for name in names(folder)}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
