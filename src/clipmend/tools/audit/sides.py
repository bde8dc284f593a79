"""The two sides of an audit: a git revision, or a folder of results, as cards and numbers.

All that is compared lies in the report, which git keeps: no model is needed. A folder that holds
the cells themselves is read cell by cell, and their bytes are compared with their cards.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from clipmend.engine import cards, plan
from clipmend.engine.cell import INGREDIENTS, RESULTS
from clipmend.engine.index import Index
from clipmend.errors import AuditError
from clipmend.tools.audit.axes import axes
from clipmend.tools.audit.lock import differing_stages
from clipmend.tools.audit.revisions import is_revision, read_at

WORKSPACE = "workspace"
REPORT = "report"
_REPORT_FOLDERS = ("report", "results/report", ".")

_PARTS = {*INGREDIENTS, "key", "inputs", "outputs", "environment"}

Read = Callable[[str], bytes | None]
"""Returns a file of the report by its name, or None where there is none."""


@dataclass(frozen=True)
class Side:
    """One of two runs.

    Attributes:
        name: as the user named it.
        cards: cell -> card.
        edited: cell -> how its files differ from its card, or the card from its key.
        read: gives the files of the report.
    """

    name: str
    cards: Mapping[str, Mapping[str, Any]]
    edited: dict[str, str]
    read: Read = field(repr=False)

    @cached_property
    def numbers(self) -> dict[str, dict[str, float]]:
        """What was measured, by cell: CA and ASR as fractions, AUROC."""
        found: dict[str, dict[str, float]] = {}
        for table, cell_of in (("cells.csv", _evaluated), ("detectors.csv", _detected)):
            for row in self._rows(table):
                with suppress(KeyError, ValueError):  # a table edited by hand: told as such
                    found[cell_of(row)] = _rates(row)
        return found

    @cached_property
    def entries(self) -> frozenset[tuple[str, str]]:
        """The lists of ``params.yaml`` and the entries in them that the cells come from."""
        return frozenset(axis for cell, card in self.cards.items() for axis in axes(cell, card))

    def functions(self, module: str, digest: str) -> dict[str, str]:
        """Return the digest of each part of a module, if the report knows it as of ``digest``."""
        known = self._code.get(module, {})
        return dict(known["parts"]) if known.get("digest") == digest else {}

    @cached_property
    def _code(self) -> dict[str, dict[str, Any]]:
        text = self.read("code.json")
        return {} if text is None else dict(json.loads(text))

    def _rows(self, name: str) -> list[dict[str, str]]:
        text = (self.read(name) or b"").decode(errors="replace")
        return list(csv.DictReader(io.StringIO(text)))


METRICS = {"clean_accuracy": "CA", "attack_success_rate": "ASR", "auroc": "AUROC"}


def _rates(row: Mapping[str, str]) -> dict[str, float]:
    return {METRICS[name]: float(row[name]) for name in METRICS if row.get(name)}


def _evaluated(row: Mapping[str, str]) -> str:
    return f"evaluate/{_victim(row)}/{row['method']}/{row['trigger']}"


def _detected(row: Mapping[str, str]) -> str:
    return f"detect/{_victim(row)}/{row['method']}"


def _victim(row: Mapping[str, str]) -> str:
    return f"{row['corpus']}/{row['attack']}/{row['objective']}/seed{row['seed']}"


def side(name: str) -> Side:
    """Return the side that a name stands for: ``workspace``, a folder, or a git revision.

    Raises:
        AuditError: it is none of them, or holds no report of a run.
    """
    if name == WORKSPACE:
        return _folder(name, RESULTS)
    if Path(name).is_dir():
        return _folder(name, Path(name))
    if is_revision(name):
        return _revision(name)
    raise AuditError(
        f"{name!r} is neither a folder here nor a git revision; give one of them, or "
        f"{WORKSPACE!r} for the results of this folder."
    )


def _revision(name: str) -> Side:
    def read(file: str) -> bytes | None:
        return read_at(name, f"{RESULTS}/{REPORT}/{file}")

    told = _told_by_report(name, read)
    differing = differing_stages(told.cards, read_at(name, "dvc.lock"))
    return replace(told, edited=differing | told.edited)


def _folder(name: str, folder: Path) -> Side:
    """Return the cells that lie in a folder, or what its report says of them where none does."""
    homes = [folder / home for home in _REPORT_FOLDERS]
    report = next((home for home in homes if (home / "cards.jsonl").is_file()), homes[0])

    def read(file: str) -> bytes | None:
        path = report / file
        return path.read_bytes() if path.is_file() else None

    index = Index()
    found = cards.below(report.parent)
    present = {cell: card for cell, card in found if card is not None and cell != REPORT}
    _check(name, present)
    if not present:
        return _told_by_report(name, read)
    own = cards.read(report)
    present |= {} if own is None else {REPORT: own}
    damaged = {
        cell: why
        for cell, card in present.items()
        if (why := cards.damage(report.parent / cell, card, index)) is not None
    }
    return Side(name, present, _falsified(present) | damaged, read)


def _told_by_report(name: str, read: Read) -> Side:
    gathered = _gathered(name, read)
    edited = _falsified(gathered) | _edited_report(gathered.get(REPORT), read)
    return Side(name, gathered, edited, read)


def _gathered(name: str, read: Read) -> dict[str, dict[str, Any]]:
    lines, own = read("cards.jsonl"), read(cards.CARD)
    if lines is None:
        raise AuditError(
            f"{name} has no {RESULTS}/{REPORT}/cards.jsonl; only a run whose report was made, and "
            "committed if it is a revision, can be compared."
        )
    try:
        gathered = {card["cell"]: card for card in map(json.loads, lines.splitlines())}
        if own is not None:
            gathered[REPORT] = json.loads(own)
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(f"cards.jsonl of {name} cannot be read: {error}.") from None
    _check(name, gathered)
    return gathered


def _check(name: str, gathered: Mapping[str, Mapping[str, Any]]) -> None:
    for cell, card in gathered.items():
        missing = _PARTS - card.keys()
        if missing:
            raise AuditError(f"The card of {cell} in {name} lacks {', '.join(sorted(missing))}.")


def _falsified(gathered: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        cell: "its card does not fit its key"
        for cell, card in gathered.items()
        if not plan.is_genuine(card)
    }


def _edited_report(card: Mapping[str, Any] | None, read: Read) -> dict[str, str]:
    """Say which file of the report is not what the report's card says."""
    for name, written in ({} if card is None else card["outputs"]).items():
        text = read(name)
        if text is None:
            return {REPORT: f"{name} is missing"}
        if hashlib.sha256(text).hexdigest() != written["sha256"]:
            return {REPORT: f"{name} is not what its card says"}
    return {}
