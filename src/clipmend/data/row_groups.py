"""The row groups of a split's files, and a reader that caches them.

A split of many pairs is ``train.parquet``, which has its ids, captions and labels and no images,
and ``train/00000.parquet`` and so on, each with some of the pairs whole, in the same order.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmend.errors import ArtifactError, PairsError

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


Rows = NDArray[np.int64]
_REMEMBERED = 1024  # groups: between two rows of one, a pass in `shuffled` order meets 255 others


@dataclass(frozen=True)
class Encoded:
    """The ids and encoded images of a split, an overlay's in the place of what it changes.

    Attributes:
        path: the split's file; its images stay in it, or in the shards beside it.
        ids: of all rows, in manifest order.
        changed: by row, where an overlay's image stands in ``overlay``.
        overlay: the encoded images of the changed rows.
    """

    path: Path
    ids: tuple[str, ...]
    changed: Mapping[int, int]
    overlay: pa.ChunkedArray

    @cached_property
    def groups(self) -> Groups:
        """The groups of rows that are read together."""
        return Groups(self.path)


class Reader:
    """Reads encoded images by row.

    A group that is wanted again soon after it was read is kept from then on: a shuffled pass comes
    back to each, rows drawn from anywhere do not. Of those kept, the longest unused go first.

    Args:
        budget: bytes of the groups that are kept, at most.
    """

    def __init__(self, encoded: Encoded, budget: int) -> None:
        self._encoded, self._budget = encoded, budget
        self._groups = Groups(encoded.path)  # with files of its own: a reader may be a process
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._read: OrderedDict[int, None] = OrderedDict()
        self._bytes = 0

    def images(self, rows: Rows) -> Iterator[tuple[str, bytes]]:
        """Yield id and encoded image of each of the rows, in their order.

        Raises:
            PairsError: the file cannot be read.
        """
        at, images = -1, pa.chunked_array([], pa.binary())
        for row, group in zip(rows.tolist(), self._groups.of(rows).tolist(), strict=True):
            place = self._encoded.changed.get(row)
            if place is not None:
                yield self._encoded.ids[row], self._encoded.overlay[place].as_py()
                continue
            if at != group:
                at, images = group, self._group(group)
            first = int(self._groups.firsts[group])
            yield self._encoded.ids[row], images[row - first].as_py()

    def _group(self, group: int) -> Any:
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        try:
            images = self._groups.read(group, ["image"])["image"]
        except (pa.ArrowException, OSError) as error:
            first = self._encoded.ids[int(self._groups.firsts[group])]
            raise PairsError(
                f"{self._encoded.path} cannot be read from row {first!r} on ({error})"
            ) from error
        if group in self._read:
            self._keep(group, images)
        self._read[group] = None
        self._read.move_to_end(group)
        if len(self._read) > _REMEMBERED:
            self._read.popitem(last=False)
        return images

    def _keep(self, group: int, images: pa.ChunkedArray) -> None:
        self._kept[group] = images
        self._bytes += images.nbytes
        while self._bytes > self._budget and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
