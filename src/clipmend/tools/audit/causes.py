"""Explain why a cell changed, using only its two cards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from clipmend.engine.fingerprint import CONSTANTS, MODULE_LEVEL
from clipmend.tools.audit.sides import Card, Side, entries, setting_of

Kind = Literal[
    "unexplained", "parameter", "code", "file", "environment", "grid", "moved", "same bytes"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_DIGITS = 8  # of a digest, in a cause


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
    prefixes = {"settings": f"{setting_of(cell)}.", "shared": f"{cell.partition('/')[0]}."}
    for part, prefix in prefixes.items():
        for cause in _changed("parameter", old[part], new[part], prefix):
            # A setting of the whole run, which every stage shares, is one cause.
            is_of_run = part == "shared" and cause.what == f"{prefix}arithmetic"
            yield replace(cause, what="arithmetic") if is_of_run else cause
    # The method of a corpus is its source, which its path does not show.
    named = [{part: card[part] for part in ("method", "seed")} for card in (old, new)]
    yield from _changed("parameter", named[0], named[1], f"{cell}: ")
    yield from _code(old, new, a, b)
    yield from _changed("file", old["files"], new["files"], digits=_DIGITS)
    read_a = {role: read["cell"] for role, read in old["inputs"].items()}
    read_b = {role: read["cell"] for role, read in new["inputs"].items()}
    for role, was, now in differences(read_a, read_b):
        # A cell that exists on one side only is reported where it was added or removed.
        if {was, now} <= a.cards.keys() & b.cards.keys():
            yield Cause("grid", f"{cell} reads another {role}", was, now)


# Apart from `direct`: it is in no key, so it explains other bytes but never makes a cell stale.
def environment(cell: str, a: Side, b: Side) -> Iterator[Cause]:
    """Return the differences between the machines and packages that made a cell."""
    return _changed("environment", *(side.cards[cell]["environment"] for side in (a, b)))


def _code(old: Card, new: Card, a: Side, b: Side) -> Iterator[Cause]:
    for module, was, now in differences(old["code"], new["code"]):
        if was is None or now is None:
            # Not "added": the file may have existed before, outside the import closure.
            yield Cause("code", module, "imported" if was else "", "imported" if now else "")
            continue
        parts_a, parts_b = a.functions(module, was), b.functions(module, now)
        names = [n for n, _, _ in differences(parts_a, parts_b)] if parts_a and parts_b else []
        # The module level has the constants in it. A report of an earlier version has no digest of
        # the constants alone.
        is_compared = CONSTANTS in names and CONSTANTS in parts_a and CONSTANTS in parts_b
        names = [n for n in names if n != (MODULE_LEVEL if is_compared else CONSTANTS)]
        where = f" ({', '.join(names)})" if names else ""
        path = f"src/{module.replace('.', '/')}.py{where}"
        yield Cause("code", path, was[:_DIGITS], now[:_DIGITS])


def _grid(cell: str, a: Side, b: Side) -> Cause:
    """Return the entry of a list in ``params.yaml`` that came or went with a cell.

    If no entry did, the cause is the cell alone.
    """
    side, other = (a, b) if cell in a.cards else (b, a)
    new = [e for e in entries(cell, side.cards[cell]) if e not in other.entries]
    name, entry = new[0] if new else ("cells of the grid", "made")
    return Cause("grid", name, entry, "") if side is a else Cause("grid", name, "", entry)


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


def _changed(
    kind: Kind,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",
    digits: int | None = None,
) -> Iterator[Cause]:
    """Yield a cause for each value that differs, as text; of a digest, the first digits."""
    for name, *values in differences(_flat(old), _flat(new)):
        texts = ("" if value is None else str(value)[:digits] for value in values)
        yield Cause(kind, f"{prefix}{name}", *texts)
