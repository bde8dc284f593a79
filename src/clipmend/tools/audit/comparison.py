"""Two runs compared: every changed cell with its causes, and what each cause did to the numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from clipmend.tools.audit.axes import stage_order
from clipmend.tools.audit.causes import KINDS, Cause, differences, direct, environment
from clipmend.tools.audit.sides import REPORT, Side

How = Literal["changed", "added", "removed", "remade"]


@dataclass(frozen=True)
class Change:
    """A cell that is not what it was.

    Attributes:
        how: ``remade`` if its card is another and every byte the same.
        files: file -> (old sha256, new sha256), of those that differ; empty where there was none.
        causes: its own; none where an input brought the change.
        inputs: the changed cells that it reads.
        fed: whether one of them has other bytes (for the report: another card).
        numbers: metric -> (old, new), None where it was not measured.
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
        """The stage that it is a cell of."""
        return self.cell.partition("/")[0]


@dataclass(frozen=True)
class Root:
    """A cause with all that it reached.

    Attributes:
        number: from 1, as shown.
        cells: the cells that it touched itself.
        below: the cells that it reached through others' bytes.
        told: of ``cells``, those that no cause of fewer cells touched: where a reader is told of
            them, once.
        told_below: the same of ``below``.
    """

    number: int
    cause: Cause
    cells: tuple[Change, ...]
    below: tuple[Change, ...]
    told: tuple[Change, ...]
    told_below: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """What ``clipmend audit`` has to say.

    Attributes:
        changes: in the order of the stages.
        same: how many cells are what they were, byte for byte and by key.
    """

    a: str
    b: str
    changes: tuple[Change, ...]
    same: int

    @cached_property
    def roots(self) -> tuple[Root, ...]:
        """The causes: unexplained ones first, of one kind those of few cells first."""
        reached = self._reached()
        found: dict[Cause, list[Change]] = {}
        for change in self.changes:
            for cause in change.causes:
                found.setdefault(cause, []).append(change)
        ordered = sorted(found, key=lambda cause: (KINDS.index(cause.kind), len(found[cause])))
        rank = {cause: (len(found[cause]), place) for place, cause in enumerate(ordered)}
        home = {
            change.cell: min(change.causes or reached[change.cell], key=rank.__getitem__)
            for change in self.changes
            if reached[change.cell]
        }
        handed_down = [change for change in self.changes if not change.causes]
        roots = []
        for number, cause in enumerate(ordered, 1):
            cells = found[cause]
            below = [change for change in handed_down if cause in reached[change.cell]]
            told, told_below = (
                tuple(change for change in changes if home[change.cell] == cause)
                for changes in (cells, below)
            )
            roots.append(Root(number, cause, tuple(cells), tuple(below), told, told_below))
        return tuple(roots)

    @cached_property
    def numbers(self) -> dict[Cause, int]:
        """The number of each cause, as shown."""
        return {root.cause: root.number for root in self.roots}

    @property
    def unexplained(self) -> bool:
        """Whether a change has no explanation."""
        return any(root.cause.kind == "unexplained" for root in self.roots)

    def count(self, how: How) -> int:
        """Return how many cells changed in this way."""
        return sum(change.how == how for change in self.changes)

    def _reached(self) -> dict[str, frozenset[Cause]]:
        """Return, for each changed cell, every cause above it and its own."""
        reached: dict[str, frozenset[Cause]] = {}
        for change in self.changes:  # a cell comes after those that it reads
            above = (reached.get(cell, frozenset()) for cell in change.inputs)
            reached[change.cell] = frozenset(change.causes).union(*above)
        return reached


def compare(a: Side, b: Side) -> Comparison:
    """Return what changed from side ``a`` to side ``b``."""
    cells = sorted(a.cards.keys() | b.cards.keys(), key=stage_order)
    changes: dict[str, Change] = {}
    for cell in cells:
        change = _change(cell, a, b, changes)
        if change is not None:
            changes[cell] = change
    stages = _stages(a, b)
    found = [*stages, *changes.values()]
    return Comparison(a.name, b.name, tuple(found), len(cells) - len(changes))


def _stages(a: Side, b: Side) -> list[Change]:
    """Return an unexplained change for each whole stage that is not what its cards say."""
    return [
        Change(stage, "changed", {}, (_edited(stage, side.edited[stage], side),), (), False, {})
        for side in (a, b)
        for stage in side.edited.keys() - side.cards.keys()
    ]


def _change(cell: str, a: Side, b: Side, before: Mapping[str, Change]) -> Change | None:
    old, new = a.cards.get(cell), b.cards.get(cell)
    edited = [_edited(cell, side.edited[cell], side) for side in (a, b) if cell in side.edited]
    if not edited and _told(old) == _told(new):
        return None
    causes, inputs, files = [*edited, *direct(cell, a, b)], _inputs(old, new, before), {}
    fed = any(cell == REPORT or before[name].how != "remade" for name in inputs)
    how: How = "added" if old is None else "removed"
    if old is not None and new is not None:
        files = _files(old, new)
        causes += environment(cell, a, b)
        how = "changed" if files or edited else "remade"
        if files and not causes and not fed:
            causes.append(Cause("unexplained", f"{cell}: other bytes from the same parts"))
    return Change(cell, how, files, tuple(causes), inputs, fed, _numbers(cell, a, b))


def _told(card: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a card without what the report noted beside it."""
    return {} if card is None else {name: card[name] for name in card if name != "md5"}


def _edited(cell: str, why: str, side: Side) -> Cause:
    return Cause("unexplained", f"{cell}: {why}, in {side.name}")


def _files(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    was = {name: written["sha256"] for name, written in old["outputs"].items()}
    now = {name: written["sha256"] for name, written in new["outputs"].items()}
    return {name: (a or "", b or "") for name, a, b in differences(was, now)}


def _inputs(
    old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, before: Mapping[str, Change]
) -> tuple[str, ...]:
    """Return the changed cells that a cell read, on either side."""
    cards = (card for card in (old, new) if card is not None)
    cells = {read["cell"] for card in cards for read in card["inputs"].values()}
    return tuple(sorted(cells & before.keys()))


def _numbers(cell: str, a: Side, b: Side) -> dict[str, tuple[float | None, float | None]]:
    old, new = a.numbers.get(cell, {}), b.numbers.get(cell, {})
    return {
        metric: (old.get(metric), new.get(metric))
        for metric in dict.fromkeys((*old, *new))
        if old.get(metric) != new.get(metric)
    }
