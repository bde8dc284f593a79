"""Locks of a test alone: others of the process stay as they are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clipmend.engine import locks


@contextmanager
def own_locks() -> Iterator[None]:
    """Begin without a lock, and release at the end what was locked."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_held", "_folder"):
            patch.setattr(locks, name, type(getattr(locks, name))())
        yield
        for file in locks._held.values():
            file.close()
        for number in locks._folder:
            os.close(number)
