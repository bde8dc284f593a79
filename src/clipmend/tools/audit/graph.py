"""The changed part of the graph, laid out: a column per stage, cells of one kind as one box."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clipmend.methods.table import STAGES
from clipmend.tools.audit.axes import named
from clipmend.tools.audit.comparison import Change, Comparison

WIDTH, HEIGHT = 160, 46  # of a box, in pixels
_COLUMN, _ROW = 202, 60
_NUMBERS = 3  # of causes in a box; its title has the cells, the list below has all causes
_MARGIN = 28  # room for the stages' names above


@dataclass(frozen=True)
class Box:
    """Cells of one stage and method that changed in the same way for the same reasons.

    Attributes:
        kind: of its first cause; ``input`` if it has none of its own.
        roots: the numbers of its causes.
    """

    stage: str
    label: str
    kind: str
    how: str
    roots: tuple[int, ...]
    cells: tuple[str, ...]
    x: int
    y: int

    @property
    def reasons(self) -> str:
        """How its cells changed, and the first of their causes."""
        if not self.roots:
            return self.how
        more = ", …" if len(self.roots) > _NUMBERS else ""
        return f"{self.how} [{', '.join(map(str, self.roots[:_NUMBERS]))}{more}]"


@dataclass(frozen=True)
class Graph:
    """Boxes, and arrows between them as pairs of points."""

    boxes: Sequence[Box]
    arrows: Sequence[tuple[int, int, int, int]]
    stages: Sequence[tuple[str, int]]
    width: int
    height: int


def graph(comparison: Comparison) -> Graph:
    """Return the layout of all changed cells."""
    groups: dict[tuple[str, str, str, tuple[int, ...]], list[Change]] = {}
    for change in comparison.changes:
        roots = tuple(sorted(comparison.numbers[cause] for cause in change.causes))
        groups.setdefault((change.stage, named(change.cell), change.how, roots), []).append(change)
    stages = [stage for stage in STAGES if any(stage == key[0] for key in groups)]
    filled = dict.fromkeys(stages, 0)
    boxes = []
    for (stage, label, how, roots), changes in groups.items():
        kind = changes[0].causes[0].kind if roots else "input"
        x, y = stages.index(stage) * _COLUMN, _MARGIN + filled[stage] * _ROW
        filled[stage] += 1
        cells = tuple(change.cell for change in changes)
        boxes.append(Box(stage, label, kind, how, roots, cells, x, y))
    return Graph(
        boxes,
        _arrows(boxes, comparison.changes),
        [(stage, stages.index(stage) * _COLUMN) for stage in stages],
        max(1, len(stages)) * _COLUMN,
        _MARGIN + max(filled.values(), default=0) * _ROW,
    )


def _arrows(boxes: Iterable[Box], changes: Iterable[Change]) -> list[tuple[int, int, int, int]]:
    home = {cell: box for box in boxes for cell in box.cells}
    pairs = {
        (home[read], home[change.cell]): None
        for change in changes
        for read in change.inputs
        if read in home
    }
    middle = HEIGHT // 2
    return [(one.x + WIDTH, one.y + middle, two.x, two.y + middle) for one, two in pairs]
