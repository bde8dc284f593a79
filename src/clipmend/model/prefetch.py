"""Load the next batches while a GPU computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Loaded = TypeVar("Loaded")


def prefetch(
    load: Callable[[Part], Loaded], parts: Iterable[Part], *, depth: int
) -> Iterator[Loaded]:
    """Yield each part loaded, in order.

    Args:
        depth: number of parts that a thread loads in advance; 0: each part is loaded when it is
            requested, without a thread.
    """
    if depth == 0:
        yield from map(load, parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as loader:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for part in parts:
                waiting.append(loader.submit(load, part))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            loader.shutdown(wait=True, cancel_futures=True)
