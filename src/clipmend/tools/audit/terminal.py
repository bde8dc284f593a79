"""The audit as a tree in a terminal, causes first, and as a Mermaid graph in a Markdown file."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from clipmend.engine import files
from clipmend.engine.printing import printable
from clipmend.report.markup import in_markdown
from clipmend.tools.audit.comparison import Change, Comparison, Root
from clipmend.tools.audit.moves import Move

_LISTED = 12  # lines of one kind; `--json` has all
_FOLDED = 3  # more causes of one kind with the same cells are printed as one
_WIDE = 1000
_STYLES = {
    "unexplained": "bold red",
    "parameter": "bold cyan",
    "code": "bold magenta",
    "file": "bold green",
    "environment": "bold yellow",
    "grid": "bold blue",
    "moved": "bold",
    "same bytes": "bold",
}


def show(comparison: Comparison, console: Console) -> None:
    """Print the tree."""
    title = f"{comparison.a} → {comparison.b}: {summary(comparison)}"
    tree = Tree(Text(printable(title), style="bold"))
    for kind, moves in groupby(comparison.moves, key=attrgetter("kind")):
        _add_moves(tree, kind, list(moves))
    # An edit of many modules reaches the same cells; without folding they would repeat each time.
    folded = groupby(comparison.roots, key=lambda root: (root.cause.kind, root.cells))
    for (kind, _), group in folded:
        roots = list(group)
        for part in [roots] if len(roots) > _FOLDED else [[root] for root in roots]:
            first, last = part[0], part[-1]
            label = f"{first.number}  {first.cause}"
            if part is roots:
                label = f"{first.number}-{last.number}  {kind}: {len(roots)} changes"
            branch = tree.add(Text(printable(label), style=_STYLES[kind]))
            _add_lines(branch, [root.cause.change for root in part if part is roots])
            _add_cells(branch, part)
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to wrap at
    console.print(tree)


def summary(comparison: Comparison) -> str:
    """Return how many cells changed, and how."""
    counts = [
        (comparison.count("changed"), "changed"),
        (comparison.count("added"), "added"),
        (comparison.count("removed"), "removed"),
        (comparison.count("remade"), "made again to the same bytes"),
        (comparison.same, "the same"),
    ]
    texts = [f"{count} {how}" for count, how in counts if count or how == "changed"]
    return f"{', '.join(texts)} (cells)"


def _add_moves(tree: Tree, kind: str, moves: list[Move]) -> None:
    """Add the moves of one kind; cells of one stage and method share a line."""
    changed = sum(not move.is_same for move in moves)
    what = {"cell": "bytes", "module": "functions"}.get(kind, "content")
    more = f"; {changed} of them also changed" if changed else f", same {what}"
    label = f"moved: {len(moves)} {kind}{'s' if len(moves) > 1 else ''}{more}"
    branch = tree.add(Text(label, style=_STYLES["moved"]))

    def short(name: str) -> str:
        return f"{name.partition('/')[0]}/…/{name.rpartition('/')[2]}" if kind == "cell" else name

    lines = Counter(
        f"{short(m.old)} → {short(m.new)}{'' if m.is_same else '  (changed)'}"
        f"{'' if m.is_compared else '  (module level not compared)'}"
        for m in moves
    )
    _add_lines(branch, [f"{line}  x {n}" if n > 1 else line for line, n in lines.items()])


def _add_cells(branch: Tree, roots: Sequence[Root]) -> None:
    """Add the cells of a cause, or of several with the same cells."""
    root = roots[0]
    by_kind = attrgetter("kind")
    for kind, group in groupby(sorted(root.behind, key=by_kind), key=by_kind):
        causes = list(group)
        reasons = branch.add(Text(f"because of {kind}: {len(causes)}", style="dim"))
        _add_lines(reasons, [f"{c.change}  ({root.behind[c]} cells)" for c in causes])
    cells = [change for each in roots for change in each.listed(each.cells)]
    _add_lines(branch, [describe(change, root, len(roots)) for change in cells])
    if elsewhere := len(root.cells) - len(cells):
        branch.add(Text(f"{elsewhere} more, listed under a cause of fewer cells", style="dim"))
    below = [change for each in roots for change in each.listed(each.below)]
    if below:
        counts = Counter(change.stage for change in below)
        listed = ", ".join(f"{count} {stage}" for stage, count in counts.items())
        further = branch.add(Text(printable(f"and below: {listed}"), style="dim"))
        _add_lines(further, [describe(c, root, len(roots)) for c in below if c.numbers])


def _add_lines(branch: Tree, lines: Iterable[str]) -> None:
    texts = list(lines)
    for text in texts[:_LISTED]:
        branch.add(Text(printable(text)))
    if len(texts) > _LISTED:
        branch.add(Text(f"... and {len(texts) - _LISTED} more", style="dim"))


def describe(change: Change, root: Root, causes: int = 1) -> str:
    """Return a cell, its changed files and its changed numbers in one line.

    Args:
        causes: how many of the causes of the cell are printed above it.
    """
    parts = [change.cell]
    if change.how in ("added", "removed"):
        parts.append(change.how)
    elif change.files:
        parts.append(", ".join(change.files))
    parts += [f"{name} {_percent(a)} → {_percent(b)}" for name, (a, b) in change.numbers.items()]
    others = len(change.causes) - causes if root.cause in change.causes else 0
    further = [f"{others} other cause{'s' if others > 1 else ''}"] if others > 0 else []
    if change.causes and change.fed and change.how == "changed":
        further.append("its inputs")
    return "  ".join([*parts, *([f"(and {', and '.join(further)})"] if further else [])])


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def write_graph(comparison: Comparison, path: Path) -> None:
    """Write the changed part of the graph as Markdown with a Mermaid diagram.

    A box is all cells of a stage that changed in one way for the same reasons.
    """
    numbers = {root.cause: root.number for root in comparison.roots}
    boxes: dict[tuple[str, str, str], list[str]] = {}
    for change in comparison.changes:
        own = [str(numbers[cause]) for cause in change.reasons]
        reasons = f" [{', '.join(own[:_FOLDED])}{', …' * (len(own) > _FOLDED)}]" if own else ""
        boxes.setdefault((change.stage, change.how, reasons), []).append(change.cell)
    home = {cell: f"box{n}" for n, cells in enumerate(boxes.values()) for cell in cells}
    lines = [
        f'{home[cells[0]]}["{escape(printable(stage))} x {len(cells)}<br>{how}{reasons}"]'
        for (stage, how, reasons), cells in boxes.items()
    ]
    lines += dict.fromkeys(
        f"{home[cell]} --> {home[change.cell]}"
        for change in comparison.changes
        for cell in change.inputs
        if home[cell] != home[change.cell]  # a model that training continued from
    )
    causes = [
        f"{root.number}. {in_markdown(escape(printable(str(root.cause)), quote=False))}"
        for root in comparison.roots
    ]
    title = f"# {comparison.a} → {comparison.b}\n\n{summary(comparison)}."
    diagram = "\n".join(["```mermaid", "flowchart LR", *(f"    {line}" for line in lines), "```"])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, "\n\n".join([title, diagram, "\n".join(causes)]) + "\n")
