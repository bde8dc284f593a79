"""Seconds of every job of a grid, and what they rest on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from clipmend.engine.cell import Cell
from clipmend.tools.estimate.corpora import ORIGINS, Corpus
from clipmend.tools.estimate.costs import START, Figure, Source, figures
from clipmend.tools.estimate.machines import Machine, Rate
from clipmend.tools.estimate.models import known
from clipmend.tools.estimate.passes import passes
from clipmend.tools.estimate.survey import Survey

_BRIEF = 2 * START  # an attack that trains nothing, and the report; more where a corpus is large


@dataclass(frozen=True)
class Times:
    """What is known of the time that jobs take.

    Attributes:
        timed: seconds of the jobs that this folder timed, where they are to be run here.
    """

    seen: Survey
    corpora: Mapping[str, Corpus]
    machine: Machine
    timed: Mapping[str, float]

    def seconds(self) -> dict[str, Figure]:
        """Return the seconds of every job that can be known, by cell.

        Measured, or those of jobs like it, or what it has to do at the machine's throughput.
        """
        changed = {name: cell for name, cell in self.seen.changed.items() if name in self.timed}
        done = dict.fromkeys(changed, 0.0) | self._passes(changed.values())
        found = figures(self.seen.cells, self.timed, self.work, done)
        for name, cell in self.seen.cells.items():
            if name not in found:
                computed = self._computed(cell)
                if computed is not None:
                    found[name] = computed
        return found

    @cached_property
    def work(self) -> dict[str, float]:
        """The passes of each cell that has any, where its corpus is known."""
        return self._passes(self.seen.cells.values())

    def rate(self, corpus: Corpus) -> Rate | None:
        """Return the throughput of the grid's model on a corpus."""
        model = known(self.seen.params.pretrain.model)
        return self.machine.rate(model.name, model.image_size or corpus.image_size)

    def _passes(self, cells: Iterable[Cell]) -> dict[str, float]:
        found = {}
        for cell in cells:
            corpus = self._corpus(cell)
            if corpus is not None and corpus.sizes is not None:
                needed = passes(cell, corpus.sizes)
                if needed is not None:
                    found[cell.name] = needed
        return found

    def _corpus(self, cell: Cell) -> Corpus | None:
        return self.corpora.get(cell.inputs.get("corpus", ""))

    def _computed(self, cell: Cell) -> Figure | None:
        if cell.stage == "download":
            return self.corpora[cell.name].seconds
        corpus = self._corpus(cell)
        if cell.name in self.work and corpus is not None:
            rate = self.rate(corpus)
            if rate is None:
                return None
            source: Source = "assumed" if rate.source == "assumed" else "extrapolated"
            return Figure(START + self.work[cell.name] / rate.per_second, source)
        return Figure(_BRIEF, "assumed") if cell.stage in ("poison", "report") else None


def basis_of(times: Times) -> Iterator[str]:
    """Yield where the figures come from, a line each."""
    here = sum(name in times.timed for name in times.seen.cells)
    if here:
        yield (
            f"{here:,} jobs of this grid were timed here (logs/benchmark); jobs like them: the "
            "median, scaled by what they have to do where that is known."
        )
    machine = times.machine
    rates = {rate.origin: rate for corpus in times.corpora.values() if (rate := times.rate(corpus))}
    for rate in rates.values():
        yield (
            f"Training on {machine.name} ({machine.what}), {rate.per_second:,.0f} pairs/s, "
            f"{rate.source}: {rate.origin}. What methods have to do beside one pass a pair was "
            "read from their settings."
        )
    for key in dict.fromkeys(key for one in times.corpora.values() for key in one.origins):
        yield f"Corpora: {ORIGINS[key]}."
