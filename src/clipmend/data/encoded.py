"""The encoded images of a split, read from its files a group of rows at a time."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmend.data.row_groups import Groups
from clipmend.errors import PairsError

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
