"""Where a cell stands in the grid, in the words of ``params.yaml``."""

from collections.abc import Iterator, Mapping
from typing import Any

from clipmend.methods.table import STAGES

_VICTIM = ("download.corpora", "poison.methods", "pretrain.methods", "seeds")
_LISTS = {
    "download": _VICTIM[:1],
    "poison": ("download.corpora", "poison.methods", "seeds"),
    "report": (),
}
_REPAIRS = ("unlearn", "baselines")


def named(cell: str) -> str:
    """Return the name that ``params.yaml`` gives to the method of a cell."""
    stage, *path = cell.split("/")
    place = {"download": 0, "poison": 1, "pretrain": 2, "evaluate": 4}.get(stage, -1)
    return path[place] if path else ""


def axes(cell: str, card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lists in ``params.yaml`` that a cell comes from, each with its entry."""
    stage, *path = cell.split("/")
    for name, entry in zip(_LISTS.get(stage, _VICTIM), path, strict=False):
        yield name, entry.removeprefix("seed") if name == "seeds" else entry
    if stage in ("detect", *_REPAIRS):
        yield f"{stage}.methods", named(cell)
    elif stage == "evaluate":
        for read in card["inputs"].values():
            if read["cell"].startswith(_REPAIRS):
                yield f"{read['cell'].partition('/')[0]}.methods", named(cell)


def stage_order(cell: str) -> tuple[int, str]:
    """Sort cells as the data flows."""
    stage = cell.partition("/")[0]
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), cell)
