"""Processes that read and decode images while the model computes."""

import gc
import os
import signal
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from threading import RLock

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from clipmend.data.images import Pixels, decode_into
from clipmend.data.row_groups import Encoded, Reader, Rows
from clipmend.data.workers import cores, end_with, shared
from clipmend.errors import PairsError

_MOST = 16  # processes
_TASK = 32  # images that a process decodes at once
_AHEAD = 1024  # images, at least, that are decoded before they are asked for; 128 a process
_CACHE = 2**29  # bytes of encoded images that all processes together keep


@dataclass
class _Desk:
    """One process: what is given to it comes back in the same order, through a ring of places.

    Attributes:
        ring: of (places, images, 3, size, size), in memory that both sides see.
        taken: how many tasks came back.
        open: of those given since, where their images go.
    """

    process: ForkProcess
    pipe: Connection
    ring: Pixels
    ids: tuple[str, ...]
    taken: int = 0
    open: deque[tuple[Rows, Pixels, Rows]] = field(default_factory=deque)

    @property
    def given(self) -> int:
        """How many tasks were handed over."""
        return self.taken + len(self.open)

    def give(self, rows: Rows, out: Pixels, places: Rows) -> None:
        """Hand over a task: the images of ``rows`` are to be written to ``places`` of ``out``."""
        if len(self.open) == len(self.ring):
            self.take()
        try:
            self.pipe.send(rows)
        except OSError as error:
            raise self._ended(rows) from error
        self.open.append((rows, out, places))

    def take(self) -> None:
        """Wait for the oldest open task, and copy its images to where they go.

        Raises:
            PairsError: one of them cannot be decoded, or the process is no more.
        """
        rows, out, places = self.open.popleft()
        try:
            fault = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended(rows) from error
        if fault is not None:
            raise PairsError(fault)
        out[places] = self.ring[self.taken % len(self.ring), : len(places)]
        self.taken += 1

    def _ended(self, rows: Rows) -> PairsError:
        self.process.join(1.0)
        return PairsError(
            f"A process that decodes images ended (exit code {self.process.exitcode}) before it "
            f"had row {self.ids[int(rows[0])]!r}; if memory was short, run fewer jobs at a time."
        )


class Decoders:
    """The processes that decode one split; they end with this object, or with their parent.

    A group of the file is always read by the same process. What comes back does not depend on how
    many there are. Threads may share them.

    Args:
        size: side of the decoded images.
    """

    def __init__(self, encoded: Encoded, size: int) -> None:
        self._encoded, self._size, self._lock = encoded, size, RLock()
        count = min(cores(), _MOST)
        self._ahead = max(_AHEAD, 128 * count)
        # Twice the room, as the rows of a while are not spread evenly over the processes.
        places = max(2, 2 * self._ahead // (count * _TASK))
        self._desks: list[_Desk] = []
        self.end = weakref.finalize(self, _end, self._desks, os.getpid())
        for _ in range(count):
            ring = shared((places, _TASK, 3, size, size))
            self._desks.append(_started(encoded, ring, _CACHE // count))

    def stream(self, parts: Iterable[Rows]) -> Iterator[UInt8[Tensor, "_ 3 size size"]]:
        """Yield the images of each part, in order; those of the next are decoded meanwhile.

        Raises:
            PairsError: an image cannot be decoded; the error names its row.
        """
        waiting: deque[tuple[Pixels, list[int]]] = deque()
        for part in parts:
            waiting.append(self._asked(part))
            while sum(len(out) for out, _ in waiting) - len(waiting[0][0]) >= self._ahead:
                yield self._answered(*waiting.popleft())
        while waiting:
            yield self._answered(*waiting.popleft())

    def images(self, rows: Rows) -> UInt8[Tensor, "rows 3 size size"]:
        """Return the images of some rows, decoded by all processes together.

        Raises:
            PairsError: as ``stream``.
        """
        return self._answered(*self._asked(rows))

    def _asked(self, rows: Rows) -> tuple[Pixels, list[int]]:
        """Hand the rows over; return where the images will be, and how far each process is then."""
        out = np.empty((len(rows), 3, self._size, self._size), np.uint8)
        owner = self._encoded.groups.of(rows) % len(self._desks)
        tasks = []
        for number in range(len(self._desks)):
            places = np.flatnonzero(owner == number)
            places = places[np.argsort(rows[places], kind="stable")]  # a group's rows together
            tasks.append([places[at : at + _TASK] for at in range(0, len(places), _TASK)])
        with self._shared():
            # A task for each process in turn, so that none waits for another to be given its all.
            for turn in zip_longest(*tasks):
                for desk, places in zip(self._desks, turn, strict=True):
                    if places is not None:
                        desk.give(rows[places], out, places)
            return out, [desk.given for desk in self._desks]

    def _answered(self, out: Pixels, until: list[int]) -> UInt8[Tensor, "rows 3 size size"]:
        with self._shared():
            for desk, count in zip(self._desks, until, strict=True):
                while desk.taken < count:
                    desk.take()
        return torch.from_numpy(out)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Let no other thread in; after a failure nothing is left to be asked."""
        with self._lock:
            try:
                yield
            except PairsError:
                self.end()
                raise


def _started(encoded: Encoded, ring: Pixels, cache: int) -> _Desk:
    ours, theirs = get_context("fork").Pipe()
    parent = os.getpid()

    def serve() -> None:
        ours.close()  # or the end of this process would not be seen on the other side
        _serve(theirs, ring, Reader(encoded, cache), parent)

    # Forked: what the closure holds is inherited, not copied.
    process = get_context("fork").Process(target=serve, daemon=True)
    process.start()
    theirs.close()
    return _Desk(process, ours, ring, encoded.ids)


def _serve(pipe: Connection, ring: Pixels, reader: Reader, parent: int) -> None:
    """Decode what is asked for, into one place of the ring after another, until there is no asker.

    The answer is None, or what is wrong with an image.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends, and with it this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)
    gc.freeze()  # a collection would write to, and so copy, what was inherited
    place = 0
    while True:
        try:
            rows = pipe.recv()
            fault = None
            try:
                decode_into(ring[place][: len(rows)], reader.images(rows))
            except PairsError as error:
                fault = str(error)
            pipe.send(fault)
        except (EOFError, OSError):
            return
        place = (place + 1) % len(ring)


def _end(desks: list[_Desk], owner: int) -> None:
    """End the processes; a fork of their owner leaves them alone."""
    if os.getpid() != owner:
        return
    for desk in desks:
        desk.pipe.close()
        desk.process.terminate()
    for desk in desks:
        desk.process.join()
