"""Cells of the default preset that are made by hand."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from clipmend.engine import cards, grid, params, plan, store
from clipmend.engine.cell import Cell
from clipmend.engine.index import Glance, Index

PRESETS = Path(__file__).parents[3] / "params"
Make = Callable[[Iterable[str]], dict[str, Cell]]


@pytest.fixture
def make(folder: Path) -> Make:
    """Make cells of the preset ``default``, four bytes each; inputs are named before readers."""

    def make(names: Iterable[str]) -> dict[str, Cell]:
        cells = grid.cells(params.load(PRESETS / "default.yaml"), Glance())
        for name in names:
            cell, home = cells[name], store.RESULTS / name
            home.mkdir(parents=True)
            (home / "made.txt").write_text("made")
            present = {one: cards.read(store.RESULTS / one) for one in cell.inputs.values()}
            card = {
                **cell.ingredients(),
                "key": cell.key,
                "inputs": plan.as_read(cell, present),
                "outputs": cards.outputs(home, Index()),
                "environment": {},
            }
            cards.write(home, card)
        return cells

    assert folder.is_dir()
    return make
