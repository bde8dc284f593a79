"""Renames between two runs: cells, files, modules and settings that moved and kept their content.

Side A is rewritten in the names of side B. A rename is then one move, and not a change of every
cell that has the name in its key.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal

from clipmend.engine.cell import INGREDIENTS
from clipmend.tools.audit.sides import Card, Side, setting_of

Kind = Literal["cell", "file", "module", "setting"]
KINDS: tuple[Kind, ...] = ("cell", "file", "module", "setting")

_MODULE_LEVEL = "module level"  # imports and constants: a move changes the imports
_LEAST_LIKENESS = 0.5  # of two modules; below, the new one is a rewrite and not the old one moved


@dataclass(frozen=True)
class Move:
    """A new name for the same content.

    Attributes:
        is_same: False if the cell also has other bytes, or the module other functions.
        cells: how many cells the move is in.
    """

    kind: Kind
    old: str
    new: str
    is_same: bool
    cells: int


def align(a: Side, b: Side) -> tuple[Side, tuple[Move, ...]]:
    """Return side ``a`` in the names of side ``b``, and the moves between them."""
    cells, modules = dict(_moved_cells(a, b)), dict(_moved_modules(a, b))
    kept = {
        new
        for old, new in modules.items()
        if a.modules[old] == b.modules[new]
        or (_functions(a, old) and _functions(a, old) == _functions(b, new))
    }
    moves: Counter[tuple[Kind, str, str]] = Counter()
    cards: dict[str, Card] = {}
    renamed = set()
    for old, card in a.cards.items():
        name = cells.get(old, old)
        inputs = {
            cells.get(role, role): {**read, "cell": cells.get(read["cell"], read["cell"])}
            for role, read in card["inputs"].items()
        }
        code = {modules.get(module, module): digest for module, digest in card["code"].items()}
        cards[name] = {**card, "inputs": inputs, "code": code}
        if name in b.cards:
            cards[name] = _like(cards[name], b.cards[name], kept, moves)
            moves.update(("module", m, modules[m]) for m in card["code"] if m in modules)
            if any(cards[name][part] != card[part] for part in INGREDIENTS):
                renamed.add(name)
    for old, new in cells.items():
        moves["cell", old, new] += 1
    aligned = replace(
        a,
        cards=cards,
        edited={cells.get(cell, cell): why for cell, why in a.edited.items()},
        cell_names=cells,
        module_names={new: old for old, new in modules.items()},
        renamed=frozenset(renamed),
    )
    # A cell keeps its bytes if the hashes do, whatever the files are called.
    same = {new for new in cells.values() if _hashes(cards[new]) == _hashes(b.cards[new])} | kept
    listed = [
        Move(kind, old, new, kind in ("file", "setting") or new in same, count)
        for (kind, old, new), count in moves.items()
    ]
    return aligned, tuple(sorted(listed, key=lambda move: (KINDS.index(move.kind), move.old)))


def _moved_cells(a: Side, b: Side) -> Iterator[tuple[str, str]]:
    """Yield the cells of A that have another name in B.

    A cell moved if the new cell has the same victim and method and half of its files or more. It
    also moved if exactly one new cell has all of its files.
    """
    gone, come = a.cards.keys() - b.cards.keys(), b.cards.keys() - a.cards.keys()
    below = {name.partition("/")[2]: name for name in come}
    hashes = {name: _hashes(b.cards[name]) for name in come}
    # Cells of several victims can share all their files, such as repairs that changed nothing.
    owners = Counter(tuple(sorted(values)) for values in hashes.values())
    for old in sorted(gone):
        own = _hashes(a.cards[old])
        namesake = below.get(old.partition("/")[2], "")
        if namesake and 2 * len(own & hashes[namesake]) >= max(1, len(own)):
            yield old, namesake
        elif own and owners[tuple(sorted(own))] == 1:
            yield old, next(name for name, values in hashes.items() if values == own)


def _hashes(card: Card) -> set[str]:
    return {written["sha256"] for written in card["outputs"].values()}


def _moved_modules(a: Side, b: Side) -> Iterator[tuple[str, str]]:
    """Yield the modules of A that have another name in B, the likest pairs first."""
    old, new = a.modules, b.modules
    gone, come = old.keys() - new.keys(), new.keys() - old.keys()
    pairs = [
        (_likeness(was, now) + 0.2 * (_file(left) == _file(right)), left, right)
        for left, was in {name: _functions(a, name) for name in gone}.items()
        for right, now in {name: _functions(b, name) for name in come}.items()
    ]
    pairs += [(2.0, left, right) for left in gone for right in come if old[left] == new[right]]
    for likeness, left, right in sorted(pairs, reverse=True):
        if likeness >= _LEAST_LIKENESS and left in gone and right in come:
            gone, come = gone - {left}, come - {right}
            yield left, right


def _likeness(old: Mapping[str, str], new: Mapping[str, str]) -> float:
    """Return the share of functions with the same name, and half as much for equal code."""
    common = old.keys() & new.keys()
    equal = sum(old[name] == new[name] for name in common)
    if len(common) < 2 and not equal:
        return 0.0  # every stage has a function `run`
    return (2 * len(common) + equal) / max(1, len(old) + len(new))


def _file(module: str) -> str:
    return module.rpartition(".")[2]


def _functions(side: Side, module: str) -> dict[str, str]:
    parts = side.functions(module, side.modules[module])
    return {name: digest for name, digest in parts.items() if name != _MODULE_LEVEL}


def _like(
    card: Card, other: Card, kept: set[str], moves: Counter[tuple[Kind, str, str]]
) -> dict[str, Any]:
    """Return a card of A with the names that its namesake in B has for the same content."""
    stage = other["stage"]
    aligned = {**card, "stage": stage}
    if card["cell"] != other["cell"]:
        aligned |= {"cell": other["cell"], "method": other["method"]}
    parts: tuple[tuple[str, Kind, str], ...] = (
        ("outputs", "file", ""),
        ("files", "file", ""),
        ("settings", "setting", f"{setting_of(other['cell'])}."),
        ("shared", "setting", f"{stage}."),
    )
    for part, kind, prefix in parts:
        renamed = _renamed(card[part], other[part])
        moves.update((kind, prefix + old, prefix + new) for old, new in renamed.items())
        aligned[part] = {renamed.get(n, n): value for n, value in card[part].items()}
    # A moved module has other imports. Its functions are compared, not its digest.
    same = {module: digest for module, digest in other["code"].items() if module in kept}
    aligned["code"] = {m: same.get(m, digest) for m, digest in card["code"].items()}
    return aligned


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return the names that only ``old`` has, with the one that only ``new`` has for the value."""
    pairs: dict[str, str] = {}
    for name in sorted(old.keys() - new.keys()):
        free = new.keys() - old.keys() - set(pairs.values())
        like = sorted(other for other in free if new[other] == old[name])
        if like:
            pairs[name] = max(like, key=lambda n: SequenceMatcher(None, name, n).ratio())
    return pairs
