"""The row groups of a split's files, and a reader that caches them.

A split of many pairs has a manifest, ``train.parquet``, with ids, captions and labels. Its shards,
``train/00000.parquet`` and so on, hold the same pairs in the same order, with their images.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmend.errors import ArtifactError, PairsError

GROUP = 128  # rows that are read together: few, so that reading some rows stays cheap
_OPEN = 16  # files that a reader keeps open: a corpus may have thousands


def shard(split: Path, number: int) -> Path:
    """Return the path of a split's shard of that number."""
    return split.with_suffix("") / f"{number:05d}.parquet"


def footers_of(split: Path) -> dict[Path, Any]:
    """Return the files that hold the images of a split, in the order of its pairs, with metadata.

    Raises:
        ArtifactError: a shard cannot be read, or the shards hold another number of pairs than the
            manifest.
    """
    files = sorted(split.with_suffix("").glob("*.parquet"))
    try:
        manifest = pq.read_metadata(split)
        if not files and "image" in manifest.schema.to_arrow_schema().names:
            return {split: manifest}
        footers = {file: pq.read_metadata(file) for file in files}
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{split} or a shard of it cannot be read ({error}).") from error
    count = sum(footer.num_rows for footer in footers.values())
    if count != manifest.num_rows:
        raise ArtifactError(
            f"{split} lists {manifest.num_rows} pairs, but the shards in "
            f"{split.with_suffix('')} hold {count}."
        )
    return footers


class Groups:
    """The row groups of a split, over all files that hold its images.

    Attributes:
        firsts: the first row of each group.
    """

    def __init__(self, split: Path) -> None:
        self._location: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for file, footer in footers_of(split).items():
            groups = range(footer.num_row_groups)
            self._location += [(file, group) for group in groups]
            sizes += [footer.row_group(group).num_rows for group in groups]
        self.firsts: NDArray[np.int64] = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        # Not memory-mapped: pages once touched would count as memory of this process.
        self._opened = lru_cache(_OPEN)(pq.ParquetFile)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the group that holds each row."""
        return np.searchsorted(self.firsts, rows, side="right") - 1

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Return some columns of a group.

        Raises:
            pyarrow.ArrowException, OSError: its file cannot be read.
        """
        file, number = self._location[group]
        return self._opened(file).read_row_group(number, list(columns), use_threads=False)


Rows = NDArray[np.int64]
_REMEMBERED = 1024  # groups; a shuffled epoch visits 255 others between two rows of a group


@dataclass(frozen=True)
class Encoded:
    """The ids and encoded images of a split, with the images of an overlay in place.

    Attributes:
        path: the file of the split; images stay in it, or in its shards.
        ids: the ids of all rows, in manifest order.
        changed: changed row -> its position in ``overlay``.
        overlay: the encoded images of the changed rows.
    """

    path: Path
    ids: tuple[str, ...]
    changed: Mapping[int, int]
    overlay: pa.ChunkedArray

    @cached_property
    def groups(self) -> Groups:
        """The row groups of the split."""
        return Groups(self.path)


class Reader:
    """Reads encoded images by row, with a cache of row groups (least recently used go first).

    A group enters the cache on its second read: a shuffled epoch revisits groups, random access
    does not.

    Args:
        budget: largest size of the cache, in bytes.
    """

    def __init__(self, encoded: Encoded, budget: int) -> None:
        self._encoded, self._budget = encoded, budget
        self._groups = Groups(encoded.path)  # own file handles: a reader may be its own process
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._read: OrderedDict[int, None] = OrderedDict()
        self._bytes = 0

    def images(self, rows: Rows) -> Iterator[tuple[str, bytes]]:
        """Yield the id and the encoded image of each row, in order.

        Raises:
            PairsError: the file cannot be read.
        """
        current, images = -1, pa.chunked_array([], pa.binary())
        for row, group in zip(rows.tolist(), self._groups.of(rows).tolist(), strict=True):
            position = self._encoded.changed.get(row)
            if position is not None:
                yield self._encoded.ids[row], self._encoded.overlay[position].as_py()
                continue
            if current != group:
                current, images = group, self._group(group)
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
            self._kept[group] = images
            self._bytes += images.nbytes
            while self._bytes > self._budget and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        self._read[group] = None
        self._read.move_to_end(group)
        if len(self._read) > _REMEMBERED:
            self._read.popitem(last=False)
        return images
