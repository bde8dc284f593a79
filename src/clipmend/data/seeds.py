"""Randomness by purpose: one seed, many unrelated streams."""

from hashlib import sha256

import numpy as np
import torch


def seed_of(seed: int, purpose: str) -> int:
    """Return the 56-bit seed of one ``purpose`` in the run seeded ``seed``.

    Purposes such as ``"poison/select"`` and ``"pretrain/init"`` give unrelated seeds. The names of
    purposes never change: a new name would change every byte that depends on it.
    """
    return int.from_bytes(sha256(f"{seed}/{purpose}".encode()).digest()[:7], "big")


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return the torch generator for one ``purpose``."""
    return torch.Generator().manual_seed(seed_of(seed, purpose))


def numpy_stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the NumPy generator for one ``purpose``."""
    return np.random.default_rng(seed_of(seed, purpose))
