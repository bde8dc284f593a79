"""Why a cell is another than it was: read from its two cards, and from nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clipmend.tools.audit.axes import axes, named
from clipmend.tools.audit.sides import Side

Kind = Literal["unexplained", "parameter", "code", "file", "environment", "grid"]
KINDS: tuple[Kind, ...] = ("unexplained", "parameter", "code", "file", "environment", "grid")

Card = Mapping[str, Any]


@dataclass(frozen=True)
class Cause:
    """A reason of its own, not handed down by an input.

    Attributes:
        what: a path in ``params.yaml``, a module with its functions, a file, a package.
        old, new: what it was and is, where that says something.
    """

    kind: Kind
    what: str
    old: str = ""
    new: str = ""

    @property
    def change(self) -> str:
        """What is another, and from what to what."""
        values = f": {self.old or '(none)'} → {self.new or '(none)'}"
        return f"{self.what}{values if self.old or self.new else ''}"

    def __str__(self) -> str:
        return f"{self.kind} {self.change}"


def direct(cell: str, a: Side, b: Side) -> Iterator[Cause]:
    """Yield a changed cell's own causes: parameters, code, files, other cells to read."""
    old, new = a.cards.get(cell), b.cards.get(cell)
    if old is None or new is None:
        yield _grid(cell, a, b)
        return
    yield from _parameters(cell, old, new)
    yield from _code(old, new, a, b)
    for path, was, now in differences(old["files"], new["files"]):
        yield Cause("file", path, _short(was), _short(now))
    read_a = {role: read["cell"] for role, read in old["inputs"].items()}
    read_b = {role: read["cell"] for role, read in new["inputs"].items()}
    for role, was, now in differences(read_a, read_b):
        if {was, now} <= a.cards.keys() & b.cards.keys():  # else it is told where it came or went
            yield Cause("grid", f"{cell} reads another {role}", was, now)


def environment(cell: str, a: Side, b: Side) -> Iterator[Cause]:
    """Yield what is another about the machine and the packages that a cell was made with."""
    old, new = a.cards[cell]["environment"], b.cards[cell]["environment"]
    for name, was, now in differences(_flat(old), _flat(new)):
        yield Cause("environment", name, _text(was), _text(now))


def _parameters(cell: str, old: Card, new: Card) -> Iterator[Cause]:
    stage = cell.partition("/")[0]
    own = f"{stage}.settings.{named(cell)}."
    for part, prefix in (("settings", own), ("shared", f"{stage}.")):
        for name, was, now in differences(_flat(old[part]), _flat(new[part])):
            yield Cause("parameter", f"{prefix}{name}", _text(was), _text(now))
    for part in ("method", "seed"):
        if old[part] != new[part]:
            yield Cause("parameter", f"{cell}: {part}", _text(old[part]), _text(new[part]))


def _code(old: Card, new: Card, a: Side, b: Side) -> Iterator[Cause]:
    for module, was, now in differences(old["code"], new["code"]):
        if was is None or now is None:
            yield Cause("code", module, *(("", "imported") if was is None else ("imported", "")))
            continue
        parts_a, parts_b = a.functions(module, was), b.functions(module, now)
        names = [n for n, _, _ in differences(parts_a, parts_b)] if parts_a and parts_b else []
        where = f" ({', '.join(names)})" if names else ""
        yield Cause("code", f"{source(module)}{where}", _short(was), _short(now))


def source(module: str) -> str:
    """Return the file of a module, as it lies in the project."""
    return f"src/{module.replace('.', '/')}.py"


def _grid(cell: str, a: Side, b: Side) -> Cause:
    """Return the entry of a list that came or went with a cell, or that the cell alone did."""
    side, other, added = (b, a, True) if cell not in a.cards else (a, b, False)
    for name, entry in axes(cell, side.cards[cell]):
        if (name, entry) not in other.entries:
            return Cause("grid", name, *(("", entry) if added else (entry, "")))
    return Cause("grid", "cells of the grid", *(("", "made") if added else ("made", "")))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings with their keys joined by points."""
    if not isinstance(value, Mapping):
        return {prefix.removesuffix("."): value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{prefix}{name}.")
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, old, new) of what differs, sorted, None where it was not."""
    names = sorted(old.keys() | new.keys())
    return [(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _short(digest: str | None) -> str:
    return "" if digest is None else digest[:8]
