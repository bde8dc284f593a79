"""Renames between two runs: cells, files, modules and settings that moved and kept their content.

Side A is rewritten in the names of side B. A rename is then one move, and not a change of every
cell that has the name in its key.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal, get_args

from clipmend.engine.cell import INGREDIENTS
from clipmend.engine.fingerprint import CONSTANTS, MODULE_LEVEL
from clipmend.tools.audit.sides import REPAIRS, Card, Side, setting_of

Kind = Literal["cell", "file", "module", "setting"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_LEAST_LIKENESS = 0.5  # of two modules; below, the new one is a rewrite and not the old one moved
_LEAST_NAME_LIKENESS = 0.5  # of two settings of a frequent value

_FREQUENT = {"0", "0.0", "1", "1.0", "true", "false", "null", '""'}
"""Values, as JSON, that many settings have: they do not show that one setting is another."""

_NEW_NAMES = {
    "moves": "trainable",
    "pace": "lr_scale",
    "settled": "converged",
    "outcome": "averaged_model",
    "watched_epochs": "curve_epochs",
    "watched_images": "curve_images",
    "optimised": "optimized",
    "centred": "centered",
    "neighbours": "neighbors",
}
"""Settings that clipmend itself renamed, by their former names."""


@dataclass(frozen=True)
class Move:
    """A new name for the same content.

    Attributes:
        is_same: False if the cell also has other bytes, or the module other functions or constants.
        cells: how many cells the move is in.
        is_compared: False if a report lacks the digest of the constants of the module.
    """

    kind: Kind
    old: str
    new: str
    is_same: bool
    cells: int
    is_compared: bool = True


def align(a: Side, b: Side) -> tuple[Side, tuple[Move, ...]]:
    """Return side ``a`` in the names of side ``b``, and the moves between them."""
    cells, modules = dict(_moved_cells(a, b)), dict(_moved_modules(a, b))
    levels = {new: _is_same(a, old, b, new) for old, new in modules.items()}
    kept = {new for new, is_same in levels.items() if is_same is not False}
    uncompared = frozenset(new for new, is_same in levels.items() if is_same is None)
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
        uncompared=uncompared,
    )
    # A cell keeps its bytes if the hashes do, whatever the files are called.
    same = {new for new in cells.values() if _hashes(cards[new]) == _hashes(b.cards[new])} | kept
    listed = [
        Move(kind, old, new, kind in ("file", "setting") or new in same, n, new not in uncompared)
        for (kind, old, new), n in moves.items()
    ]
    return aligned, tuple(sorted(listed, key=lambda move: (KINDS.index(move.kind), move.old)))


def _moved_cells(a: Side, b: Side) -> Iterator[tuple[str, str]]:
    """Yield the cells of A that have another name in B.

    A repair moved to the other stage of repairs if half of its files or more are there. Any cell
    moved if one cell on each side has its seed, its bytes and the bytes that it was made from.
    """
    gone, come = a.cards.keys() - b.cards.keys(), b.cards.keys() - a.cards.keys()
    for old in sorted(gone):
        stage, _, path = old.partition("/")
        new = f"{REPAIRS[1 - REPAIRS.index(stage)]}/{path}" if stage in REPAIRS else ""
        own = _hashes(a.cards[old])
        if new in come and 2 * len(own & _hashes(b.cards[new])) >= max(1, len(own)):
            gone, come = gone - {old}, come - {new}
            yield old, new
    owners_a, owners_b = _owners(a, gone), _owners(b, come)
    for identity, olds in owners_a.items():
        news = owners_b.get(identity, [])
        if len(olds) == len(news) == 1:
            yield olds[0], news[0]


def _owners(side: Side, cells: Iterable[str]) -> dict[tuple[object, ...], list[str]]:
    """Return the cells of each seed, bytes and bytes read; those without a file are left out."""
    owners: dict[tuple[object, ...], list[str]] = {}
    for cell in sorted(cells):
        card = side.cards[cell]
        # A corpus without poison has the same bytes at every seed: bytes alone are ambiguous.
        read = frozenset(
            sha for read in card["inputs"].values() for sha in read.get("outputs", {}).values()
        )
        if own := frozenset(_hashes(card)):
            owners.setdefault((card["seed"], own, read), []).append(cell)
    return owners


def _hashes(card: Card) -> set[str]:
    return {written["sha256"] for written in card["outputs"].values()}


def _moved_modules(a: Side, b: Side) -> Iterator[tuple[str, str]]:
    """Yield the modules of A that have another name in B, the likest pairs first."""
    old, new = a.modules, b.modules
    gone, come = old.keys() - new.keys(), new.keys() - old.keys()
    pairs = [
        (_likeness(was, now) + 0.2 * (left.split(".")[-1] == right.split(".")[-1]), left, right)
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


def _functions(side: Side, module: str) -> dict[str, str]:
    parts = side.functions(module, side.modules[module])
    return {n: digest for n, digest in parts.items() if n not in (MODULE_LEVEL, CONSTANTS)}


def _is_same(a: Side, old: str, b: Side, new: str) -> bool | None:
    """Return whether a moved module is the same; None if a report lacks its constants."""
    if a.modules[old] == b.modules[new]:
        return True
    if not _functions(a, old) or _functions(a, old) != _functions(b, new):
        return False
    was, now = (s.functions(m, s.modules[m]) for s, m in ((a, old), (b, new)))
    if CONSTANTS in was and CONSTANTS in now:
        return was[CONSTANTS] == now[CONSTANTS]
    # Equal imports and constants are equal constants; unequal ones say nothing.
    return True if MODULE_LEVEL in was and was[MODULE_LEVEL] == now.get(MODULE_LEVEL) else None


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
        value = json.dumps(old[name], sort_keys=True)  # tells True, 1 and 1.0 apart
        likeness = {
            other: 2.0
            if other == _NEW_NAMES.get(name)
            else SequenceMatcher(None, name, other).ratio()
            for other in sorted(new.keys() - old.keys() - set(pairs.values()))
            if json.dumps(new[other], sort_keys=True) == value
        }
        nearest = max(likeness, key=likeness.__getitem__, default=None)
        least = _LEAST_NAME_LIKENESS if value in _FREQUENT else -1.0
        if nearest is not None and likeness[nearest] > least:
            pairs[name] = nearest
    return pairs
