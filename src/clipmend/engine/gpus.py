"""Assign a GPU to each job on a machine with several, by one lock per GPU."""

import os
import platform
from pathlib import Path

from clipmend.engine import locks

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")


def has_driver() -> bool:
    """Return whether this machine has an NVIDIA driver, without importing torch."""
    return (DEVICES / "nvidiactl").exists()


def claim(count: int = 1) -> None:
    """Make ``count`` GPUs visible to this process, free ones first, and lock them until it ends.

    Call this before torch counts GPUs. A choice made before, as by Slurm, is kept.
    """
    present = len(list(DEVICES.glob("nvidia[0-9]*")))
    if VISIBLE in os.environ or present < 2:
        return
    held: list[int] = []
    for number in range(present):
        if len(held) < count and locks.hold(f"{platform.node()}-gpu{number}"):
            held.append(number)
    # More jobs than GPUs: the rest share those that others hold, rather than wait.
    shared = [number for number in range(present) if number not in held]
    os.environ[VISIBLE] = ",".join(map(str, [*held, *shared][:count]))
