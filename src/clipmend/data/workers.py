"""Distribute work on many rows over the cores of this machine."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from math import prod
from mmap import mmap
from multiprocessing import get_context
from threading import Thread
from time import sleep
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmend.engine import processes
from clipmend.errors import PairsError

_PART = 1024  # rows that a process takes at once
_INTERVAL = 1.0  # seconds between two checks that the parent still runs
_FEW = 32 * _PART  # rows; below this, more processes cost more than they save

Made = TypeVar("Made")


def cores() -> int:
    """Return how many cores this process may use for decoding.

    The scheduler's number (``CLIPMEND_CORES``) if it gave one, else all cores of the machine; they
    are shared with the other processes that train the same model.
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    allowed = min(allowed, int(os.environ.get("CLIPMEND_CORES", allowed)))
    return max(1, allowed // processes.here())


def processes_for(count: int) -> int:
    """Return the number of processes for ``count`` rows: one, or one per core."""
    return cores() if count > _FEW else 1


def end_with(parent: int) -> None:
    """Let this process end soon after its parent, even if the parent is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_INTERVAL)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def spread(work: Callable[[range], Made], count: int) -> Iterator[Made]:
    """Yield the result of ``work`` for each part of the rows from 0 to ``count - 1``, in order.

    The results do not depend on the number of processes. The processes are forked: they inherit
    the objects of ``work``, and this process sees what they write into ``shared`` memory.

    Raises:
        PairsError: a process was killed.
    """
    parts = [range(first, min(first + _PART, count)) for first in range(0, count, _PART)]
    workers = processes_for(count)
    if workers == 1:
        yield from map(work, parts)
        return
    fork = get_context("fork")
    try:
        with ProcessPoolExecutor(workers, fork, _enter, (work, os.getpid())) as pool:
            yield from pool.map(_take, parts)
    except BrokenProcessPool as error:
        raise PairsError(
            f"One of {workers} processes that share the work on {count} rows was killed; "
            "if memory ran out, run fewer jobs at a time."
        ) from error


def shared(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array in memory that forked processes share with this one."""
    return np.frombuffer(mmap(-1, prod(shape)), np.uint8).reshape(shape)


_work: list[Callable[[range], Any]] = []


def _enter(work: Callable[[range], Any], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends this process
    end_with(parent)
    _work[:] = [work]


def _take(part: range) -> Any:
    return _work[0](part)
