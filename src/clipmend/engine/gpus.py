"""Which GPUs a job has for itself, where a machine has several: a lock for each."""

import os
import platform
from pathlib import Path

from clipmend.engine import locks

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")


def has_driver() -> bool:
    """Say whether this machine has an NVIDIA driver; torch is not asked."""
    return (DEVICES / "nvidiactl").exists()


def claim(wanted: int = 1) -> None:
    """Let this process and its children see ``wanted`` GPUs, those first that no job here holds.

    They are held until the process ends. What is chosen already stays, as by Slurm; on a machine
    with one GPU, or none, there is nothing to choose. Torch must not have looked yet.
    """
    there = len(list(DEVICES.glob("nvidia[0-9]*")))
    if VISIBLE in os.environ or there < 2:
        return
    held: list[int] = []
    for number in range(there):
        if len(held) < wanted and locks.hold(f"{platform.node()}-gpu{number}"):
            held.append(number)
    shared = [number for number in range(there) if number not in held]
    os.environ[VISIBLE] = ",".join(map(str, [*held, *shared][:wanted]))
