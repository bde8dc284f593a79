"""The processes of one job, as torchrun starts them: the first leads, the others follow it.

The leading process is the job: it holds the lock and writes the cell. Torch is not imported before
it is needed.
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
    """Return how many processes make this cell together."""
    return int(os.environ["WORLD_SIZE"]) if all(map(os.environ.get, _VARIABLES)) else 1


def here() -> int:
    """Return how many of them share this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count() > 1 else 1


def rank() -> int:
    """Return the place of this process among them, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


@cache
def store() -> "Store":
    """Return what the processes tell one another by, before they are a group."""
    from torch.distributed.rendezvous import rendezvous

    made, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    found: Store = made
    return found


def tell(*, go: bool) -> None:
    """Tell the followers whether the cell is to be made; return when all have heard it."""
    if count() == 1:
        return
    store().set(_GO, str(int(go)))
    if not go:  # the store may live in this process, which ends now
        store().wait([f"{_GO}/{other}" for other in range(1, count())], timedelta(minutes=1))


def told() -> bool:
    """Return, in a follower, what the leading process says."""
    store().wait([_GO], _PATIENCE)
    go = store().get(_GO) == b"1"
    store().set(f"{_GO}/{rank()}", "heard")
    return go


def launch(number: int, arguments: list[str]) -> None:
    """Run this command again in several processes, as torchrun does; end as the first to fail did.

    Raises:
        ClipmendError: one of them was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus.claim(number)
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
            sys.exit(failure.exitcode)  # it has said why
        raise ClipmendError(
            f"Process {failure.local_rank} of {number} was ended by signal {-failure.exitcode}; "
            "run again: training goes on from its last checkpoint."
        ) from None
