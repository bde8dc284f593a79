"""Bytes that cells take on disk."""

from collections.abc import Mapping

from clipmend.engine.cell import Cell
from clipmend.tools.estimate.corpora import Corpus
from clipmend.tools.estimate.costs import Figure, figures
from clipmend.tools.estimate.models import known
from clipmend.tools.estimate.survey import Survey

SAVED = {"pretrain": 2, "unlearn": 1, "baselines": 1}  # models that a job writes
WORKING = 3  # a checkpoint of the loop: weights, and two moments of AdamW
_BYTES = 4  # a weight's


def sizes_of(seen: Survey, corpora: Mapping[str, Corpus]) -> dict[str, Figure]:
    """Return the bytes of every cell's files that can be known.

    Measured where the cell is there, or those of cells like it that are.
    """
    found = figures(seen.cells, seen.sizes)
    model = seen.params.pretrain.model
    for name, cell in seen.cells.items():
        if name not in found:
            size = _computed(cell, corpora, model)
            if size is not None:
                found[name] = size
    return found


def working(model: str) -> Figure | None:
    """Return the bytes of the checkpoint that a training job keeps; None for an unknown model."""
    parameters = known(model).parameters
    return (
        None if parameters is None else Figure(float(WORKING * _BYTES * parameters), "extrapolated")
    )


def _computed(cell: Cell, corpora: Mapping[str, Corpus], model: str) -> Figure | None:
    if cell.stage == "download":
        return corpora[cell.name].size
    saved = SAVED.get(cell.stage, 1 if cell.stage == "detect" and cell.method == "ubt" else 0)
    if saved:
        parameters = known(model).parameters
        return (
            None
            if parameters is None
            else Figure(float(saved * _BYTES * parameters), "extrapolated")
        )
    if cell.stage == "poison":
        each = _training_images(corpora.get(cell.inputs.get("corpus", "")))
        both = float(cell.settings.get("poison_rate", 0))
        share = both * (1 + 2 * float(cell.settings.get("single_key", 0)))
        return None if each is None else Figure(each * share, "assumed")
    return Figure(0.0, "assumed")  # scores, numbers and figures: next to nothing


def _training_images(corpus: Corpus | None) -> float | None:
    """Return the bytes of all training images of a corpus."""
    if corpus is None or corpus.sizes is None or corpus.size is None:
        return None
    return corpus.size.value * corpus.sizes.train / corpus.sizes.pairs
