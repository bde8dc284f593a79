"""The processes of one job, as torchrun starts them: the first one leads, the others follow.

The leading process is the job: it holds the lock and writes the cell.
"""

import logging
import os
import sys
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from clipmend.engine import gpus
from clipmend.errors import ClipmendError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=1)  # the leading process may wait for the lock of the cell
_GO = "clipmend/go"


def count() -> int:
    """Return the number of processes that make this cell together."""
    return int(os.environ["WORLD_SIZE"]) if all(map(os.environ.get, _VARIABLES)) else 1


def here() -> int:
    """Return how many of these processes run on this machine, according to torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count() > 1 else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


@cache
def store() -> "Store":
    """Return the key-value store by which the processes communicate before they form a group."""
    from torch.distributed.rendezvous import rendezvous

    created, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    shared: Store = created
    return shared


def send(*, go: bool) -> None:
    """Send the followers the decision to make the cell or not; return when all received it."""
    if count() == 1:
        return
    store().set(_GO, str(int(go)))
    if not go:  # the store may live in this process, which ends now
        store().wait([f"{_GO}/{other}" for other in range(1, count())], timedelta(minutes=1))


def receive() -> bool:
    """Return, in a follower, the decision of the leading process."""
    store().wait([_GO], _PATIENCE)
    go = store().get(_GO) == b"1"
    store().set(f"{_GO}/{rank()}", "received")
    return go


def launch(number: int, arguments: list[str]) -> None:
    """Run this command in several processes, as torchrun does; exit like the first that fails.

    Raises:
        ClipmendError: a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus.claim(number)  # before the processes start, so that they inherit the choice
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=str(os.getpid()),
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "clipmend", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode > 0:
            sys.exit(failure.exitcode)  # that process has printed its error
        raise ClipmendError(
            f"Process {failure.local_rank} of {number} was killed by signal {-failure.exitcode}; "
            "run again: training resumes from its last checkpoint."
        ) from None
