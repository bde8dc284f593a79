"""Explain why a cell changed, using only its two cards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from clipmend.engine.fingerprint import CONSTANTS, MODULE_LEVEL
from clipmend.tools.audit.sides import Card, Side, entries, setting_of

Kind = Literal[
    "unexplained", "parameter", "code", "file", "environment", "grid", "moved", "same bytes"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Cause:
    """A reason that a cell has itself and did not inherit from an input.

    Attributes:
        what: a path in ``params.yaml``, a module with its functions, a file, a package.
        old, new: the values before and after, if they are short enough to print.
    """

    kind: Kind
    what: str
    old: str = ""
    new: str = ""

    @property
    def change(self) -> str:
        """The change, as ``name: old → new``."""
        values = f": {self.old or '(none)'} → {self.new or '(none)'}"
        return f"{self.what}{values if self.old or self.new else ''}"

    def __str__(self) -> str:
        return f"{self.kind} {self.change}"


REMADE = Cause("same bytes", "made again to the same bytes")
RENAMED = Cause("moved", "names in the code, the settings or the files")


def direct(cell: str, a: Side, b: Side) -> Iterator[Cause]:
    """Yield a cell's own causes: parameters, code, files, other cells to read."""
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
        # A cell that exists on one side only is reported where it was added or removed.
        if {was, now} <= a.cards.keys() & b.cards.keys():
            yield Cause("grid", f"{cell} reads another {role}", was, now)


# Apart from `direct`: it is in no key, so it explains other bytes but never makes a cell stale.
def environment(cell: str, a: Side, b: Side) -> Iterator[Cause]:
    """Yield the differences between the machines and packages that made a cell."""
    old, new = a.cards[cell]["environment"], b.cards[cell]["environment"]
    for name, was, now in differences(_flat(old), _flat(new)):
        yield Cause("environment", name, _text(was), _text(now))


def _parameters(cell: str, old: Card, new: Card) -> Iterator[Cause]:
    prefixes = {"settings": f"{setting_of(cell)}.", "shared": f"{cell.partition('/')[0]}."}
    for part, prefix in prefixes.items():
        for name, was, now in differences(_flat(old[part]), _flat(new[part])):
            yield Cause("parameter", f"{prefix}{name}", _text(was), _text(now))
    # The method of a corpus is its source, which its path does not show.
    for part in ("method", "seed"):
        if old[part] != new[part]:
            yield Cause("parameter", f"{cell}: {part}", _text(old[part]), _text(new[part]))


def _code(old: Card, new: Card, a: Side, b: Side) -> Iterator[Cause]:
    for module, was, now in differences(old["code"], new["code"]):
        if was is None or now is None:
            # Not "added": the file may have existed before, outside the import closure.
            yield Cause("code", module, *(("", "imported") if was is None else ("imported", "")))
            continue
        parts_a, parts_b = a.functions(module, was), b.functions(module, now)
        names = _edited_parts(parts_a, parts_b) if parts_a and parts_b else []
        where = f" ({', '.join(names)})" if names else ""
        path = f"src/{module.replace('.', '/')}.py"
        yield Cause("code", f"{path}{where}", _short(was), _short(now))


def _edited_parts(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the parts of a module that differ; the module level only once."""
    names = [name for name, _, _ in differences(old, new)]
    # A report of an earlier version has no digest of the constants, only of the module level.
    is_compared = CONSTANTS in old and CONSTANTS in new
    return [
        n for n in names if n != (MODULE_LEVEL if is_compared and CONSTANTS in names else CONSTANTS)
    ]


def _grid(cell: str, a: Side, b: Side) -> Cause:
    """Return the entry of a list in ``params.yaml`` that came or went with a cell.

    If no entry did, the cause is the cell alone.
    """
    side, other, is_added = (b, a, True) if cell not in a.cards else (a, b, False)
    for name, entry in entries(cell, side.cards[cell]):
        if (name, entry) not in other.entries:
            return Cause("grid", name, *(("", entry) if is_added else (entry, "")))
    return Cause("grid", "cells of the grid", *(("", "made") if is_added else ("made", "")))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings with their keys joined by points."""
    if not isinstance(value, Mapping):
        return {prefix.removesuffix("."): value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}{name}.")
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, old, new) of each difference, sorted; None for a name that one side lacks."""
    names = sorted(old.keys() | new.keys())
    return [(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _short(digest: str | None) -> str:
    return "" if digest is None else digest[:8]
