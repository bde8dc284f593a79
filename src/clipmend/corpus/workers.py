"""Work on many rows, spread over the cores of this machine."""

import os
from collections.abc import Callable, Iterator
from math import prod
from mmap import mmap
from multiprocessing import get_context
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_PART = 1024  # rows that a process takes at once
_FEW = 32 * _PART  # up to here further processes cost more than they save, in a graph of jobs

Made = TypeVar("Made")


def processes_for(count: int) -> int:
    """Return how many processes share the work on ``count`` rows: one, or one a core."""
    return len(os.sched_getaffinity(0)) if count > _FEW else 1


def spread(work: Callable[[range], Made], count: int) -> Iterator[Made]:
    """Yield what ``work`` makes of the rows from 0 to ``count``, part after part, in order.

    What is made does not depend on the number of processes. They are forked: what ``work`` refers
    to is inherited, not copied, and what it writes into ``shared`` memory is seen here.
    """
    parts = [range(first, min(first + _PART, count)) for first in range(0, count, _PART)]
    processes = processes_for(count)
    if processes == 1:
        yield from map(work, parts)
        return
    with get_context("fork").Pool(processes, _enter, (work,)) as pool:
        yield from pool.imap(_take, parts)


def shared(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return memory that forked processes have in common."""
    return np.frombuffer(mmap(-1, prod(shape)), np.uint8).reshape(shape)


_work: list[Callable[[range], Any]] = []


def _enter(work: Callable[[range], Any]) -> None:
    _work[:] = [work]


def _take(part: range) -> Any:
    return _work[0](part)
