"""The two sides of an audit: a git revision, or a folder of results, as cards and numbers.

The report, which git keeps, has all that is compared: no model is needed. If a folder holds the
cells themselves, their bytes are compared with their cards.
"""

import csv
import hashlib
import io
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from clipmend.engine import cards
from clipmend.engine.cell import INGREDIENTS, RESULTS, Place
from clipmend.engine.index import Index
from clipmend.errors import AuditError, PlanError
from clipmend.tools.audit.lock import differing_stages

WORKSPACE = "workspace"
REPORT = "report"
REPAIRS = ("unlearn", "baselines")
METRICS = {"clean_accuracy": "CA", "attack_success_rate": "ASR", "auroc": "AUROC"}

_REPORT_FOLDERS = ("report", "results/report", ".")
_PARTS = {*INGREDIENTS, "key", "inputs", "outputs", "environment"}
_LISTS = {
    "corpus": "download.corpora",
    "attack": "poison.methods",
    "objective": "pretrain.methods",
    "seed": "seeds",
}

Card = Mapping[str, Any]

Read = Callable[[str], bytes | None]
"""Returns a file of the report by its name, or None if it does not exist."""


@dataclass(frozen=True)
class Side:
    """One of two runs.

    Attributes:
        name: as the user wrote it.
        cards: cell -> card.
        edited: cell -> how its files differ from its card, or the card from its key.
        read: returns a file of the report.
        cell_names: cell as the files of the report name it -> cell as ``cards`` names it.
        module_names: module as ``cards`` name it -> module as the report names it.
        renamed: cells whose code, settings or files have other names than on their card.
        uncompared: moved modules with equal functions whose constants the report lacks.
    """

    name: str
    cards: Mapping[str, Card]
    edited: dict[str, str]
    read: Read = field(repr=False)
    cell_names: Mapping[str, str] = field(default_factory=dict)
    module_names: Mapping[str, str] = field(default_factory=dict)
    renamed: frozenset[str] = frozenset()
    uncompared: frozenset[str] = frozenset()

    @cached_property
    def numbers(self) -> dict[str, dict[str, float]]:
        """The measured numbers, by cell: CA and ASR as fractions, AUROC.

        Raises:
            AuditError: a table is damaged.
        """
        numbers: dict[str, dict[str, float]] = {}
        for table, stage in (("cells.csv", "evaluate"), ("detectors.csv", "detect")):
            text = (self.read(table) or b"").decode(errors="replace")
            try:
                rows = list(csv.DictReader(io.StringIO(text, newline="")))
            except csv.Error as error:
                raise AuditError(f"{table} of {self.name} cannot be read: {error}.") from None
            for row in rows:
                # A table that was edited by hand, or cut: a short row has None.
                with suppress(KeyError, ValueError, TypeError):
                    path = Place.of(stage, row).path
                    cell = self.cell_names.get(path, path)
                    numbers[cell] = {METRICS[n]: float(row[n]) for n in METRICS if row.get(n)}
        return numbers

    @cached_property
    def entries(self) -> frozenset[tuple[str, str]]:
        """The lists of ``params.yaml`` and the entries in them that the cells come from."""
        return frozenset(
            entry for cell, card in self.cards.items() for entry in entries(cell, card)
        )

    @cached_property
    def modules(self) -> dict[str, str]:
        """The digest of every module that a cell was made with."""
        return {
            name: digest for card in self.cards.values() for name, digest in card["code"].items()
        }

    def functions(self, module: str, digest: str) -> dict[str, str]:
        """Return the digest of each part of a module, if the report has those of ``digest``."""
        module_code = self._code.get(self.module_names.get(module, module), {})
        return dict(module_code["parts"]) if module_code.get("digest") == digest else {}

    @cached_property
    def _code(self) -> dict[str, dict[str, Any]]:
        text = self.read("code.json")
        try:
            return {
                module: {"digest": str(code["digest"]), "parts": dict(code["parts"])}
                for module, code in ({} if text is None else json.loads(text)).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AuditError(f"code.json of {self.name} cannot be read: {error}.") from None


def entries(cell: str, card: Card) -> Iterator[tuple[str, str]]:
    """Yield the lists of ``params.yaml`` that a cell comes from, each with its entry."""
    place = place_of(cell)
    for name, path in _LISTS.items():
        if (value := getattr(place, name)) not in ("", None):
            yield path, str(value)
    stages = {read["cell"].partition("/")[0] for read in card["inputs"].values()}
    makers = stages if place.stage == "evaluate" else {place.stage}
    for stage in sorted(makers & {"detect", *REPAIRS}):
        yield f"{stage}.methods", place.method


def setting_of(cell: str) -> str:
    """Return the name under which ``params.yaml`` has the settings of a cell's method."""
    place = place_of(cell)
    name = place.method or place.objective or place.attack or place.corpus
    return f"{place.stage}.settings.{name}"


def place_of(cell: str) -> Place:
    """Return the place of a cell; for a stage of another version, only the stage is known."""
    try:
        return Place.parse(cell)
    except PlanError:
        return Place(cell.partition("/")[0])


def side(name: str) -> Side:
    """Return the side with this name: ``workspace``, a folder, or a git revision.

    Raises:
        AuditError: the folder or revision does not exist, or has no report of a run.
    """
    if name == WORKSPACE or Path(name).is_dir():
        return _folder(name, RESULTS if name == WORKSPACE else Path(name))
    if _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") is None:
        raise AuditError(
            f"{name!r} is neither a folder nor a git revision. Use one of these, or {WORKSPACE!r} "
            "for the results in this folder."
        )

    def read(file: str) -> bytes | None:
        return _git("show", f"{name}:./{RESULTS}/{REPORT}/{file}")

    reported = _reported(name, read)
    differing = differing_stages(reported.cards, _git("show", f"{name}:./dvc.lock"), name)
    return replace(reported, edited=differing | reported.edited)


def _folder(name: str, folder: Path) -> Side:
    """Return the cells in a folder. If it has none, take them from its report.

    Raises:
        AuditError: as ``side``; or the folder is a link, behind which a stranger's may lead away.
    """
    if folder.is_symlink() and folder != RESULTS:
        raise AuditError(f"{folder} is a link; name the folder that it leads to.")
    homes = [folder / home for home in _REPORT_FOLDERS]
    report = next((home for home in homes if (home / "cards.jsonl").is_file()), homes[0])

    def read(file: str) -> bytes | None:
        path = report / file
        is_read = (
            cards.is_own(report, file) and path.is_file() and path.stat().st_size <= cards.LIMIT
        )
        return path.read_bytes() if is_read else None

    # The copy of a report under another name has no cells beside it, whatever is there.
    below = cards.below(report.parent) if report.resolve().name == REPORT else ()
    present = {cell: card for cell, card in below if card is not None and cell != REPORT}
    if not present:  # a clone: git keeps the report, DVC the other cells
        return _reported(name, read)
    # The report's own card is not in cards.jsonl, which the report writes before it.
    own = cards.read(report)
    present |= {} if own is None else {REPORT: own}
    index = Index()
    damaged = {
        cell: why
        for cell, card in present.items()
        if (why := cards.damage(report.parent / cell, card, index)) is not None
    }
    return _checked(name, present, damaged, read)


def _reported(name: str, read: Read) -> Side:
    """Return the cells that a report has the cards of; only the report's own files are read."""
    lines, own = read("cards.jsonl"), read(cards.CARD)
    if lines is None:
        raise AuditError(
            f"{name} has no {RESULTS}/{REPORT}/cards.jsonl. Finish the run to get a report; "
            "a revision needs the report in git."
        )
    collected = cards.parse_lines(lines)
    if collected is None:
        raise AuditError(f"cards.jsonl of {name} cannot be read: a line holds no card.")
    if own is not None:
        if (card := cards.parse(own)) is None:
            raise AuditError(f"{cards.CARD} of the report of {name} cannot be read.")
        collected[REPORT] = card
    edited = {}
    for file, written in collected.get(REPORT, {}).get("outputs", {}).items():
        content = read(file)
        if content is None:
            edited[REPORT] = f"{file} is missing"
        elif hashlib.sha256(content).hexdigest() != written["sha256"]:
            edited[REPORT] = f"{file} is not what its card says"
    return _checked(name, collected, edited, read)


def _checked(name: str, collected: Mapping[str, Card], edited: dict[str, str], read: Read) -> Side:
    """Return the side with these cards, each checked against its key."""
    falsified = {}
    for cell, card in collected.items():
        if missing := _PARTS - card.keys():
            raise AuditError(f"The card of {cell} in {name} lacks {', '.join(sorted(missing))}.")
        if not cards.is_genuine(card):
            falsified[cell] = "its card does not fit its key"
    return Side(name, collected, falsified | edited, read)


def _git(*arguments: str) -> bytes | None:
    """Return what git prints in the current folder, or None if it fails."""
    try:
        done = subprocess.run(("git", *arguments), capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
