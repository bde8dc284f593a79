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
_AHEAD = 1024  # images, at least, that are decoded in advance; 128 per process
_CACHE = 2**29  # bytes of encoded images in the caches of all processes together


@dataclass
class _Worker:
    """One decoding process: tasks return in the order of submission, through a ring buffer.

    Attributes:
        ring: shared memory of shape (slots, images, 3, size, size).
        finished: number of tasks that returned.
        open: for each submitted task, its rows, and the array and positions of its images.
    """

    process: ForkProcess
    pipe: Connection
    ring: Pixels
    ids: tuple[str, ...]
    finished: int = 0
    open: deque[tuple[Rows, Pixels, Rows]] = field(default_factory=deque)

    def submit(self, rows: Rows, out: Pixels, positions: Rows) -> None:
        """Submit a task: decode the images of ``rows`` into ``positions`` of ``out``."""
        if len(self.open) == len(self.ring):
            self.collect()
        try:
            self.pipe.send(rows)
        except OSError as error:
            raise self._ended(rows) from error
        self.open.append((rows, out, positions))

    def collect(self) -> None:
        """Wait for the oldest open task, and copy its images to their positions.

        Raises:
            PairsError: an image cannot be decoded, or the process has ended.
        """
        rows, out, positions = self.open.popleft()
        try:
            fault = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended(rows) from error
        if fault is not None:
            raise PairsError(fault)
        out[positions] = self.ring[self.finished % len(self.ring), : len(positions)]
        self.finished += 1

    def _ended(self, rows: Rows) -> PairsError:
        self.process.join(1.0)
        return PairsError(
            f"A process that decodes images ended (exit code {self.process.exitcode}) before it "
            f"returned row {self.ids[int(rows[0])]!r}; if memory ran out, run fewer jobs at a time."
        )


class Decoders:
    """The processes that decode one split; they end with this object, or with their parent.

    The result does not depend on the number of processes. Threads may share them.

    Args:
        size: side of the decoded images.
    """

    def __init__(self, encoded: Encoded, size: int) -> None:
        self._encoded, self._size, self._lock = encoded, size, RLock()
        count = min(cores(), _MOST)
        self._ahead = max(_AHEAD, 128 * count)
        # Twice the space, since the rows of a short period are not spread evenly.
        slots = max(2, 2 * self._ahead // (count * _TASK))
        self._workers: list[_Worker] = []
        self.end = weakref.finalize(self, _end, self._workers, os.getpid())
        for _ in range(count):
            ring = shared((slots, _TASK, 3, size, size))
            self._workers.append(_started(encoded, ring, _CACHE // count))

    def stream(self, parts: Iterable[Rows]) -> Iterator[UInt8[Tensor, "_ 3 size size"]]:
        """Yield the images of each part, in order, while later parts are decoded.

        Raises:
            PairsError: an image cannot be decoded; the error names its row.
        """
        waiting: deque[tuple[Pixels, list[int]]] = deque()
        for part in parts:
            waiting.append(self._submitted(part))
            while sum(len(out) for out, _ in waiting) - len(waiting[0][0]) >= self._ahead:
                yield self._collected(*waiting.popleft())
        while waiting:
            yield self._collected(*waiting.popleft())

    def images(self, rows: Rows) -> UInt8[Tensor, "rows 3 size size"]:
        """Return the images of some rows, decoded by all processes together.

        Raises:
            PairsError: as ``stream``.
        """
        return next(self.stream([rows]))

    def _submitted(self, rows: Rows) -> tuple[Pixels, list[int]]:
        """Submit the rows; return the array to fill, and the tasks submitted to each process."""
        out = np.empty((len(rows), 3, self._size, self._size), np.uint8)
        # One process reads all rows of a group, so that the group is in one cache only.
        owner = self._encoded.groups.of(rows) % len(self._workers)
        tasks = []
        for number in range(len(self._workers)):
            positions = np.flatnonzero(owner == number)
            positions = positions[np.argsort(rows[positions], kind="stable")]
            tasks.append([positions[at : at + _TASK] for at in range(0, len(positions), _TASK)])
        with self._locked():
            # One task per process in turn, so that all processes start at once.
            for turn in zip_longest(*tasks):
                for worker, positions in zip(self._workers, turn, strict=True):
                    if positions is not None:
                        worker.submit(rows[positions], out, positions)
            return out, [worker.finished + len(worker.open) for worker in self._workers]

    def _collected(self, out: Pixels, until: list[int]) -> UInt8[Tensor, "rows 3 size size"]:
        with self._locked():
            for worker, count in zip(self._workers, until, strict=True):
                while worker.finished < count:
                    worker.collect()
        return torch.from_numpy(out)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other threads; a failure ends all processes."""
        with self._lock:
            try:
                yield
            except PairsError:
                self.end()
                raise


def _started(encoded: Encoded, ring: Pixels, cache: int) -> _Worker:
    ours, theirs = get_context("fork").Pipe()
    parent = os.getpid()

    def serve() -> None:
        ours.close()  # else the parent would not notice the end of this process
        _serve(theirs, ring, Reader(encoded, cache), parent)

    # Forked, so that the child inherits the closure without pickling it.
    process = get_context("fork").Process(target=serve, daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, ring, encoded.ids)


def _serve(pipe: Connection, ring: Pixels, reader: Reader, parent: int) -> None:
    """Decode submitted rows into one slot of the ring after another, until the parent ends.

    The answer to each task is None, or the error of an image.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)
    gc.freeze()  # a collection would write to inherited pages, and so copy them
    slot = 0
    while True:
        try:
            rows = pipe.recv()
            fault = None
            try:
                decode_into(ring[slot][: len(rows)], reader.images(rows))
            except PairsError as error:
                fault = str(error)
            pipe.send(fault)
        except (EOFError, OSError):
            return
        slot = (slot + 1) % len(ring)


def _end(workers: list[_Worker], owner: int) -> None:
    """End the processes, unless this process is a fork of their owner."""
    if os.getpid() != owner:
        return
    for worker in workers:
        worker.pipe.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join()
