"""The audit as a tree in a terminal: root causes first, what they reached folded under them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from clipmend.tools.audit.comparison import Change, Comparison, Root

_SHOWN = 12  # cells under one cause; `--json` and `--html` have all
_WIDE = 1000
_STYLES = {
    "unexplained": "bold red",
    "parameter": "bold cyan",
    "code": "bold magenta",
    "file": "bold green",
    "environment": "bold yellow",
    "grid": "bold blue",
}


def show(comparison: Comparison, console: Console) -> None:
    """Print the tree."""
    tree = Tree(f"[bold]{comparison.a}[/] → [bold]{comparison.b}[/]: {summary(comparison)}")
    for root in comparison.roots:
        style = _STYLES[root.cause.kind]
        branch = tree.add(Text(f"{root.number}  {root.cause}", style=style))
        _add_cells(branch, root)
        _add_below(branch, root)
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    console.print(tree)


def summary(comparison: Comparison) -> str:
    """Return how many cells changed, and how."""
    counted = [
        (comparison.count("changed"), "changed"),
        (comparison.count("added"), "added"),
        (comparison.count("removed"), "removed"),
        (comparison.count("remade"), "made again to the same bytes"),
        (comparison.same, "the same"),
    ]
    told = [f"{count} {how}" for count, how in counted if count or how == "changed"]
    return f"{', '.join(told)} (cells)"


def _add_cells(branch: Tree, root: Root) -> None:
    for change in _most(root.told, branch):
        branch.add(Text(describe(change, root)))
    if elsewhere := len(root.cells) - len(root.told):
        branch.add(Text(f"{elsewhere} more, told under a cause of fewer cells", style="dim"))


def _add_below(branch: Tree, root: Root) -> None:
    """Add what the cause reached through others: cells with numbers by name, the rest counted."""
    if not root.told_below:
        return
    counted = groupby(root.told_below, key=attrgetter("stage"))
    told = [f"{len(list(cells))} {stage}" for stage, cells in counted]
    below = branch.add(Text(f"and below: {', '.join(told)}", style="dim"))
    for change in _most([change for change in root.told_below if change.numbers], below):
        below.add(Text(describe(change, root), style="dim"))


def _most(changes: Sequence[Change], branch: Tree) -> Iterable[Change]:
    yield from changes[:_SHOWN]
    if len(changes) > _SHOWN:
        branch.add(Text(f"... and {len(changes) - _SHOWN} more", style="dim"))


def describe(change: Change, root: Root) -> str:
    """Return a cell, what of it changed, and what that did to its numbers, in one line."""
    told = [change.cell]
    if change.how in ("added", "removed"):
        told.append(change.how)
    elif change.how == "remade":
        told.append("same bytes")
    elif change.files:
        told.append(", ".join(change.files))
    told += [f"{metric} {_percent(a)} → {_percent(b)}" for metric, (a, b) in change.numbers.items()]
    others = len(change.causes) - 1 if root.cause in change.causes else 0
    further = [f"{others} other cause{'s' if others > 1 else ''}"] if others else []
    if change.causes and change.fed and change.how == "changed":
        further.append("what it reads")
    return "  ".join([*told, *([f"(and {', and '.join(further)})"] if further else [])])


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"
