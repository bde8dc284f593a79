"""Corpora of more rows than one group, made from the rendered one."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from clipmend.data.artifacts import CLASSES, TRAIN
from clipmend.data.pairs import read_pairs, write_pairs
from clipmend.engine.job import Input

VOCABULARY = '{{"classes": ["apple", "banana"], "prompts": ["a {{}}"], "image_size": {}}}'

WriteCorpus = Callable[..., Path]


@pytest.fixture(scope="session")
def repeated(corpus: Input) -> Callable[[int], pa.Table]:
    """Return a function: a number of rows -> the rendered pairs, repeated under other ids."""

    def repeat(count: int) -> pa.Table:
        pairs = read_pairs(corpus.folder / TRAIN)
        rows = pairs.take([row % len(pairs) for row in range(count)])
        ids = pa.array([f"row-{row}" for row in range(count)])
        return rows.set_column(0, rows.schema.field("id"), ids).cast(pairs.schema)

    return repeat


@pytest.fixture(scope="session")
def write_corpus() -> WriteCorpus:
    """Return a function that writes pairs as the split ``train`` of a corpus in a folder."""

    def write(
        folder: Path,
        pairs: pa.Table,
        size: int = 32,
        writer: Callable[[pa.Table, Path], object] = write_pairs,
    ) -> Path:
        writer(pairs, folder / TRAIN)
        (folder / CLASSES).write_text(VOCABULARY.format(size))
        return folder

    return write
