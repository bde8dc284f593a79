"""Images that are decoded on demand, for splits that are too large for one tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import tee
from threading import Lock

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from clipmend.data.decoders import Decoders
from clipmend.data.row_groups import Encoded, Rows

_DECODED = 2**30  # bytes of decoded images; a larger split stays encoded in its file


def fits(count: int, size: int) -> bool:
    """Return whether ``count`` images of side ``size`` fit decoded into memory."""
    return count * 3 * size**2 <= _DECODED


class LazyImages(ABC):
    """An ordered set of images with the indexing of a tensor, decoded on demand.

    Attributes:
        rows: the row of each image in its source.
        size: side of the images, in pixels.
    """

    def __init__(self, rows: Rows, size: int) -> None:
        self.rows, self.size = rows, size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the tensor of all images."""
        return len(self.rows), 3, self.size, self.size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __getitem__(
        self, index: slice | Int[Tensor, " rows"]
    ) -> UInt8[Tensor, "samples 3 height width"]:
        """Return a part of the images, decoded."""
        return self._decoded(self.rows[_numpy(index)])

    def split(self, size: int) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
        """Yield all images in blocks of ``size``, decoded; the last block may be shorter."""
        return self._stream(self.rows[at : at + size] for at in range(0, len(self), size))

    def stream(
        self, parts: Iterable[Int[Tensor, " _"]]
    ) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
        """Yield the images of each part, decoded, in order; later parts may be prefetched."""
        return self._stream(self.rows[_numpy(part)] for part in parts)

    def take(self, rows: Int[Tensor, " rows"]) -> "LazyImages":
        """Return a part of the images, still encoded."""
        part = copy(self)
        part.rows = self.rows[_numpy(rows)]
        return part

    @abstractmethod
    def _decoded(self, rows: Rows) -> Tensor:
        """Return the images at these rows of the source."""

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        return map(self._decoded, parts)


Images = UInt8[Tensor, "_ 3 height width"] | LazyImages


class EncodedImages(LazyImages):
    """Images that stay encoded in the file of a split; other processes decode them.

    Memory is bounded, whatever the number of images: see ``Decoders``.
    """

    def __init__(self, encoded: Encoded, size: int) -> None:
        super().__init__(np.arange(len(encoded.ids)), size)
        self._source = _Source(encoded, size)

    def _decoded(self, rows: Rows) -> Tensor:
        return self._source.decoders().images(rows)

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        return self._source.decoders().stream(parts)


class _Source:
    """The encoded images of a split, and the processes that decode them, started on first use."""

    def __init__(self, encoded: Encoded, size: int) -> None:
        self._encoded, self._size = encoded, size
        self._decoders: Decoders | None = None
        self._lock = Lock()

    def decoders(self) -> Decoders:
        with self._lock:
            if self._decoders is None or not self._decoders.end.alive:
                self._decoders = Decoders(self._encoded, self._size)
            return self._decoders


class JoinedImages(LazyImages):
    """The images of several parts, one after another."""

    def __init__(self, parts: Sequence[Images]) -> None:
        super().__init__(np.arange(sum(map(len, parts))), int(parts[0].shape[-1]))
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def _decoded(self, rows: Rows) -> Tensor:
        images = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        owner = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(self._parts):
            own = torch.from_numpy(np.flatnonzero(owner == number))
            if len(own):
                first = self._ends[number] - len(part)
                images[own] = part[torch.from_numpy(rows[own.numpy()] - first)]
        return images


class ChangedImages(LazyImages):
    """Images that a function changes whenever they are decoded.

    Args:
        change: the function; it gets images and their rows among all images.
    """

    def __init__(self, images: LazyImages, change: Callable[[Tensor, Rows], Tensor]) -> None:
        super().__init__(np.arange(len(images)), images.size)
        self._images, self._change = images, change

    def _decoded(self, rows: Rows) -> Tensor:
        return self._change(self._images[torch.from_numpy(rows)], rows)

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        to_read, to_change = tee(parts)
        plain = self._images.stream(map(torch.from_numpy, to_read))
        return (self._change(images, rows) for images, rows in zip(plain, to_change, strict=True))


def change_images(images: Images, change: Callable[[Tensor, Rows], Tensor]) -> Images:
    """Return the images changed by a function: at once, or whenever they are decoded."""
    if isinstance(images, Tensor):
        return change(images, np.arange(len(images)))
    return ChangedImages(images, change)


def take_images(images: Images, rows: Int[Tensor, " rows"]) -> Images:
    """Return a part of the images; decoded, if it fits into memory."""
    if isinstance(images, Tensor) or fits(len(rows), images.size):
        return images[rows]
    return images.take(rows)


def join_images(parts: Sequence[Images]) -> Images:
    """Return the images of all parts, one after another."""
    # One lazy part makes the whole lazy: decoding it could exceed memory.
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    return JoinedImages(parts)


def stream_images(
    images: Images, parts: Iterable[Int[Tensor, " _"]]
) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
    """Yield the images of each part, in order, while later parts are decoded."""
    if isinstance(images, Tensor):
        return (images[rows] for rows in parts)
    return images.stream(parts)


def _numpy(index: slice | Tensor) -> slice | Rows:
    return index if isinstance(index, slice) else index.cpu().numpy()
