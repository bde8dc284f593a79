"""The garbage collector of Python, kept away from what lives as long as the process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def permanent() -> Iterator[None]:
    """Build permanent objects inside, such as modules or a plan, without collections.

    Collections take a quarter of the time of importing torch. Afterwards no collection visits an
    object that exists now.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
