"""Images that are decoded when they are asked for, where a split is too large to be a tensor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import tee
from threading import Lock

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from clipmend.data.decoders import Decoders
from clipmend.data.row_groups import Encoded, Rows

_DECODED = 2**30  # bytes of decoded images that are held as one tensor, at most


def fits(count: int, size: int) -> bool:
    """Return whether so many images of that side are few enough to be held decoded."""
    return count * 3 * size**2 <= _DECODED


class LazyImages(ABC):
    """Images in an order; what code does with a tensor of images can be done with these.

    Attributes:
        rows: where each of them stands in what they are read from.
        size: their side, in pixels.
    """

    def __init__(self, rows: Rows, size: int) -> None:
        self.rows, self.size = rows, size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape that the tensor of them all would have."""
        return len(self.rows), 3, self.size, self.size

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def __getitem__(
        self, wanted: slice | Int[Tensor, " rows"]
    ) -> UInt8[Tensor, "samples 3 height width"]:
        """Return some of them, decoded."""
        return self._decoded(self.rows[_place(wanted)])

    def split(self, size: int) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
        """Yield all of them in blocks of ``size``, decoded; the last may be shorter."""
        return self._stream(self.rows[at : at + size] for at in range(0, len(self), size))

    def stream(
        self, parts: Iterable[Int[Tensor, " _"]]
    ) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
        """Yield the images of each part, decoded, in order; the next ones may be made ready."""
        return self._stream(self.rows[_place(part)] for part in parts)

    @abstractmethod
    def take(self, wanted: Int[Tensor, " rows"]) -> "LazyImages":
        """Return some of them, not decoded."""

    @abstractmethod
    def _decoded(self, rows: Rows) -> Tensor:
        """Return the images at some of ``rows``."""

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        return map(self._decoded, parts)


Images = UInt8[Tensor, "_ 3 height width"] | LazyImages


class EncodedImages(LazyImages):
    """Images that stay encoded in a split's file; processes decode them.

    Memory is bounded, whatever their number: see ``Decoders``.
    """

    def __init__(self, source: "_Source", rows: Rows) -> None:
        super().__init__(rows, source.size)
        self._source = source

    @classmethod
    def of(cls, encoded: Encoded, size: int) -> "EncodedImages":
        """Return all images of a split."""
        return cls(_Source(encoded, size), np.arange(len(encoded.ids)))

    def take(self, wanted: Int[Tensor, " rows"]) -> "EncodedImages":
        """Return some of them, not decoded."""
        return EncodedImages(self._source, self.rows[_place(wanted)])

    def _decoded(self, rows: Rows) -> Tensor:
        return self._source.decoders().images(rows)

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        return self._source.decoders().stream(parts)


class _Source:
    """A split's encoded images with the processes that decode them, from their first use on."""

    def __init__(self, encoded: Encoded, size: int) -> None:
        self.size = size
        self._encoded = encoded
        self._decoders: Decoders | None = None
        self._lock = Lock()

    def decoders(self) -> Decoders:
        with self._lock:
            if self._decoders is None or not self._decoders.end.alive:
                self._decoders = Decoders(self._encoded, self.size)
            return self._decoders


class JoinedImages(LazyImages):
    """The images of several parts, one after another."""

    def __init__(self, parts: Sequence[Images], rows: Rows) -> None:
        super().__init__(rows, int(parts[0].shape[-1]))
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def take(self, wanted: Int[Tensor, " rows"]) -> "JoinedImages":
        """Return some of them, not decoded."""
        return JoinedImages(self._parts, self.rows[_place(wanted)])

    def _decoded(self, rows: Rows) -> Tensor:
        found = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        owner = np.searchsorted(self._ends, rows, side="right")
        for number, part in enumerate(self._parts):
            places = torch.from_numpy(np.flatnonzero(owner == number))
            if len(places):
                first = self._ends[number] - len(part)
                found[places] = part[torch.from_numpy(rows[places.numpy()] - first)]
        return found


class ChangedImages(LazyImages):
    """Images with something done to them whenever they are asked for.

    Args:
        change: what is done; called with images and the rows at which they stand among all.
    """

    def __init__(
        self, images: LazyImages, change: Callable[[Tensor, Rows], Tensor], rows: Rows
    ) -> None:
        super().__init__(rows, images.size)
        self._images, self._change = images, change

    def take(self, wanted: Int[Tensor, " rows"]) -> "ChangedImages":
        """Return some of them, not decoded."""
        return ChangedImages(self._images, self._change, self.rows[_place(wanted)])

    def _decoded(self, rows: Rows) -> Tensor:
        return self._change(self._images[torch.from_numpy(rows)], rows)

    def _stream(self, parts: Iterable[Rows]) -> Iterator[Tensor]:
        asked, shown = tee(parts)
        plain = self._images.stream(map(torch.from_numpy, asked))
        return (self._change(images, rows) for images, rows in zip(plain, shown, strict=True))


def change_images(images: Images, change: Callable[[Tensor, Rows], Tensor]) -> Images:
    """Return the images with ``change`` done to them: at once, or whenever they are asked for."""
    rows = np.arange(len(images))
    if isinstance(images, Tensor):
        return change(images, rows)
    return ChangedImages(images, change, rows)


def take_images(images: Images, rows: Int[Tensor, " rows"]) -> Images:
    """Return some of the images; decoded, where they are few enough to be held so."""
    if isinstance(images, Tensor) or fits(len(rows), images.size):
        return images[rows]
    return images.take(rows)


def join_images(parts: Sequence[Images]) -> Images:
    """Return the images of all parts, one after another."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    return JoinedImages(parts, np.arange(sum(map(len, parts))))


def stream_images(
    images: Images, parts: Iterable[Int[Tensor, " _"]]
) -> Iterator[UInt8[Tensor, "_ 3 height width"]]:
    """Yield the images at each of the parts, in order, the next ones decoded meanwhile."""
    if isinstance(images, Tensor):
        return (images[rows] for rows in parts)
    return images.stream(parts)


def _place(wanted: slice | Tensor) -> slice | Rows:
    return wanted if isinstance(wanted, slice) else wanted.cpu().numpy()
