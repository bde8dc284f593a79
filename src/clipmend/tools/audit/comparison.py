"""Two runs compared: the causes of every changed cell, and the effect of every cause."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from clipmend.data.artifacts import FINDING, METRICS, MODEL_SCORE, TRIGGERS
from clipmend.methods.table import STAGES
from clipmend.tools.audit.causes import (
    KINDS,
    REMADE,
    RENAMED,
    Cause,
    differences,
    direct,
    environment,
)
from clipmend.tools.audit.moves import Move, align
from clipmend.tools.audit.sides import REPORT, Side

How = Literal["changed", "added", "removed", "remade"]

# The files that hold names of cells, methods or settings; the last two by their former names.
_NAMING = {METRICS, TRIGGERS, FINDING, MODEL_SCORE, "belief.json", "verdict.json"}


@dataclass(frozen=True)
class Change:
    """A cell that differs between the two runs.

    Attributes:
        how: ``remade`` if its card differs and every byte is the same.
        files: file -> (old sha256, new sha256) of each difference; "" on the side without the file.
        causes: its own; none if an input brought the change.
        inputs: the changed cells that it reads.
        fed: whether one of them has other bytes (for the report: another card).
        numbers: metric -> (old, new), None on the side without a measurement.
    """

    cell: str
    how: How
    files: Mapping[str, tuple[str, str]]
    causes: tuple[Cause, ...]
    inputs: tuple[str, ...]
    fed: bool
    numbers: Mapping[str, tuple[float | None, float | None]]

    @property
    def stage(self) -> str:
        """The stage of the cell."""
        return self.cell.partition("/")[0]

    @property
    def reasons(self) -> tuple[Cause, ...]:
        """The causes that the cell is listed under: one for all cells with the same bytes."""
        return (REMADE,) if self.how == "remade" else self.causes


@dataclass(frozen=True)
class Root:
    """A cause with all cells that it reached.

    Attributes:
        number: from 1, in the order of printing.
        cells: the cells that have the cause themselves.
        below: the cells that it reached through the bytes of others.
        home: names of those that no cause of fewer cells has; each cell is listed once.
        behind: of ``same bytes``: the causes of its cells, each with the number of cells.
    """

    number: int
    cause: Cause
    cells: tuple[Change, ...]
    below: tuple[Change, ...]
    home: Set[str]
    behind: Mapping[Cause, int]

    def listed(self, changes: Iterable[Change]) -> list[Change]:
        """Return those of the changes that are listed under this cause."""
        return [change for change in changes if change.cell in self.home]


@dataclass(frozen=True)
class Comparison:
    """The result of ``clipmend audit``.

    Attributes:
        moves: what has another name and the same content.
        changes: in the order of the stages, by their names in ``b``.
        same: the number of cells with equal bytes and an equal key.
    """

    a: str
    b: str
    moves: tuple[Move, ...]
    changes: tuple[Change, ...]
    same: int

    @cached_property
    def roots(self) -> tuple[Root, ...]:
        """The causes: unexplained ones first; within a kind, those of few cells first."""
        reached: dict[str, frozenset[Cause]] = {}
        cells: dict[Cause, list[Change]] = {}
        for change in self.changes:  # a cell comes after those that it reads
            above = (reached.get(cell, frozenset()) for cell in change.inputs)
            reached[change.cell] = frozenset(change.reasons).union(*above)
            for cause in change.reasons:
                cells.setdefault(cause, []).append(change)
        names = {cause: [change.cell for change in cells[cause]] for cause in cells}
        ordered = sorted(cells, key=lambda c: (KINDS.index(c.kind), len(names[c]), names[c]))
        rank = {cause: (len(cells[cause]), number) for number, cause in enumerate(ordered)}
        # Where each cell is listed: under the rarest of its causes, which says most about it.
        home = {
            change.cell: min(change.reasons or reached[change.cell], key=rank.__getitem__)
            for change in self.changes
            if reached[change.cell]
        }
        remade = [change.causes for change in self.changes if change.how == "remade"]
        behind = dict(Counter(cause for causes in remade for cause in causes).most_common())
        roots = []
        for number, cause in enumerate(ordered, 1):
            below = [c for c in self.changes if not c.reasons and cause in reached[c.cell]]
            here = {c.cell for c in (*cells[cause], *below) if home[c.cell] == cause}
            why = behind if cause == REMADE else {}
            roots.append(Root(number, cause, tuple(cells[cause]), tuple(below), here, why))
        return tuple(roots)

    @property
    def unexplained(self) -> bool:
        """Whether a change has no explanation."""
        return any(root.cause.kind == "unexplained" for root in self.roots)

    def count(self, how: How) -> int:
        """Return how many cells changed in this way."""
        return sum(change.how == how for change in self.changes)

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain values; rates are fractions, hashes are complete."""
        return {
            "a": self.a,
            "b": self.b,
            "same": self.same,
            "moves": [asdict(move) for move in self.moves],
            "causes": [
                {
                    **asdict(root.cause),
                    "cells": [change.cell for change in root.cells],
                    "below": [change.cell for change in root.below],
                    "behind": [asdict(c) | {"cells": n} for c, n in root.behind.items()],
                }
                for root in self.roots
            ],
            "changes": [asdict(change) for change in self.changes],
        }


def compare(before: Side, b: Side) -> Comparison:
    """Return the changes from side ``before`` to side ``b``."""
    # Renames first: with other names, every key and every path would count as a change.
    a, moves = align(before, b)
    changes: dict[str, Change] = {}
    turn = {stage: number for number, stage in enumerate(STAGES)}
    cells = sorted(
        a.cards.keys() | b.cards.keys(),
        key=lambda cell: (turn.get(cell.partition("/")[0], len(turn)), cell),
    )
    for cell in cells:
        change = _change(cell, a, b, changes)
        if change is not None:
            changes[cell] = change
    # A stage is in no card: its folder is not what dvc.lock says.
    stages = [
        Change(stage, "changed", {}, (_edited(stage, side),), (), False, {})
        for side in (a, b)
        for stage in side.edited.keys() - side.cards.keys()
    ]
    same = len(cells) - len(changes)
    return Comparison(a.name, b.name, moves, (*stages, *changes.values()), same)


def _change(cell: str, a: Side, b: Side, before: Mapping[str, Change]) -> Change | None:
    old, new = a.cards.get(cell), b.cards.get(cell)
    edited = [_edited(cell, side) for side in (a, b) if cell in side.edited]
    cards = [card for card in (old, new) if card is not None]
    # The report adds MD5s to the cards, for DVC.
    if len(cards) == 2 and not edited and {**cards[0], "md5": 0} == {**cards[1], "md5": 0}:
        return None
    read = {read["cell"] for card in cards for read in card["inputs"].values()}
    inputs = tuple(sorted(read & before.keys()))
    causes = [*edited, *direct(cell, a, b)]
    # The report copies the cards of all cells, so another card alone changes its bytes.
    fed = any(cell == REPORT or before[name].how != "remade" for name in inputs)
    how: How = "added" if old is None else "removed"
    files: dict[str, tuple[str, str]] = {}
    if old is not None and new is not None:
        hashes = [{n: w["sha256"] for n, w in card["outputs"].items()} for card in cards]
        files = {name: (was or "", now or "") for name, was, now in differences(*hashes)}
        causes += environment(cell, a, b)
        how = "changed" if files or edited else "remade"
        if files and not causes and not fed:
            causes.append(_other_bytes(cell, files.keys(), a))
    rates = differences(a.numbers.get(cell, {}), b.numbers.get(cell, {}))
    numbers = {metric: (was, now) for metric, was, now in rates}
    return Change(cell, how, files, tuple(causes), inputs, fed, numbers)


def _other_bytes(cell: str, files: Iterable[str], a: Side) -> Cause:
    """Return the cause of other bytes in a cell whose ingredients differ in names at most."""
    uncompared = sorted(a.uncompared & a.cards[cell]["code"].keys())
    # A rename explains other bytes only in files that hold names, never in a model or scores.
    holds_names = cell == REPORT or all(name in _NAMING for name in files)
    if cell in a.renamed and holds_names and not uncompared:
        return RENAMED
    more = f" (module level not compared: {', '.join(uncompared)})" if uncompared else ""
    return Cause("unexplained", f"{cell}: other bytes from the same parts{more}")


def _edited(cell: str, side: Side) -> Cause:
    return Cause("unexplained", f"{cell}: {side.edited[cell]}, in {side.name}")
