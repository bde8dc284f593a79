"""Cells made as a job would make them, without running a stage."""

from clipmend.engine import cards, plan
from clipmend.engine.cell import RESULTS
from clipmend.engine.index import Index
from clipmend.engine.plan import Plan

VICTIM = "pretrain/scenes/badnet/mmcl/seed0"
FT = "baselines/scenes/badnet/mmcl/seed0/ft"
EVALUATED = "evaluate/scenes/badnet/mmcl/seed0/ft/badnet"


def make_missing(arranged: Plan) -> list[str]:
    """Make every missing cell, as a job would, and return their names."""
    index = Index()
    names = []
    for cell in arranged.cells.values():
        folder = RESULTS / cell.name
        if cards.read(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "output.txt").write_text(cell.key)
            present = {name: cards.read(RESULTS / name) for name in cell.inputs.values()}
            card = cell.ingredients() | {"key": cell.key, "inputs": plan.as_read(cell, present)}
            cards.write(folder, card | {"outputs": cards.outputs(folder, index), "environment": {}})
            names.append(cell.name)
    return names


def contents() -> dict[str, bytes]:
    """Return the bytes of every file in ``results/``."""
    return {name: (RESULTS / name).read_bytes() for name in cards.names(RESULTS)}
