"""The files of a split: one, or a manifest beside a folder of shards.

A split of many pairs is ``train.parquet``, which has its ids, captions and labels and no images,
and ``train/00000.parquet`` and so on, each with some of the pairs whole, in the same order.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmend.errors import ArtifactError

GROUP = 128  # rows that are read together: few, so that a few are found without the others
_OPEN = 16  # files that a reader has open together: a corpus may have thousands


def shard(split: Path, number: int) -> Path:
    """Return where a split's shard of that number lies."""
    return split.with_suffix("") / f"{number:05d}.parquet"


def files_of(split: Path) -> tuple[Path, ...]:
    """Return the files that hold the pairs of a split whole, in their order.

    Raises:
        ArtifactError: shards cannot be read, or are not those of as many pairs as their manifest
            names.
    """
    return tuple(_footers(split))


def _footers(split: Path) -> dict[Path, Any]:
    """Return what ``files_of`` does, with the metadata of each file."""
    files = sorted(split.with_suffix("").glob("*.parquet"))
    try:
        named = pq.read_metadata(split)
        if not files and "image" in named.schema.to_arrow_schema().names:
            return {split: named}
        found = {file: pq.read_metadata(file) for file in files}
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{split} or a shard of it cannot be read ({error}).") from error
    held = sum(footer.num_rows for footer in found.values())
    if held != named.num_rows:
        raise ArtifactError(
            f"{split} names {named.num_rows} pairs, and the shards in {split.with_suffix('')} "
            f"hold {held}."
        )
    return found


class Groups:
    """The row groups of a split, over all files that hold its images.

    Attributes:
        firsts: the first row of each.
    """

    def __init__(self, split: Path) -> None:
        self._place: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for file, footer in _footers(split).items():
            groups = range(footer.num_row_groups)
            self._place += [(file, group) for group in groups]
            sizes += [footer.row_group(group).num_rows for group in groups]
        self.firsts: NDArray[np.int64] = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the group that holds each row."""
        return np.searchsorted(self.firsts, rows, side="right") - 1

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a group.

        Raises:
            pyarrow.ArrowException, OSError: its file cannot be read.
        """
        file, number = self._place[group]
        if file not in self._open:
            # Not memory-mapped: pages once touched would count as this process's memory.
            self._open[file] = pq.ParquetFile(file)
        self._open.move_to_end(file)
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        table: pa.Table = self._open[file].read_row_group(number, list(columns), use_threads=False)
        return table
