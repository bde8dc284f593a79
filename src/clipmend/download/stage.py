"""The stage ``download``: a source's splits, checked and written as pairs."""

import json
from typing import Protocol, runtime_checkable

import pyarrow as pa

from clipmend.corpus.pairs import SPLITS, write_pairs
from clipmend.errors import PairsError
from clipmend.job import Job
from clipmend.methods import create


@runtime_checkable
class Source(Protocol):
    """Where pairs come from. Its splits are disjoint in their ids."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that the zero-shot classifier distinguishes."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """Prompt templates with one ``{}`` each."""

    @property
    def image_size(self) -> int:
        """Side of the square images in pixels."""

    def split(self, name: str) -> pa.Table:
        """Return one of ``SPLITS``, in the schema ``PAIRS``."""


def run(job: Job) -> None:
    """Write a corpus.

    Writes ``{train,trusted,val,test}.parquet`` (schema ``PAIRS``) and ``classes.json``
    (classes, prompts, image_size).
    """
    source: Source = create("download", job.method, job.settings)
    seen: set[str] = set()
    for name in SPLITS:
        table = source.split(name)
        ids = table["id"].to_pylist()
        if not ids:
            raise PairsError(f"{job.cell}: the split {name!r} is empty; every split needs pairs.")
        if len(set(ids)) < len(ids) or not seen.isdisjoint(ids):
            raise PairsError(f"{job.cell}: ids in {name!r} are not unique across the splits.")
        seen.update(ids)
        write_pairs(table, job.out / f"{name}.parquet")
    stated = {
        "classes": list(source.classes),
        "prompts": list(source.prompts),
        "image_size": source.image_size,
    }
    (job.out / "classes.json").write_text(json.dumps(stated, indent=1) + "\n")
