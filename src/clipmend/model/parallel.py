"""Several processes that train one model: each encodes its share of every batch.

Every process holds the embeddings of the whole batch and computes the same loss, so a loss need
not know the number of processes. Gradients are averaged before each step. A run with a single
process never communicates.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from clipmend.engine import processes
from clipmend.errors import ModelError, TrainingError

_PATIENCE = timedelta(hours=2)  # the others wait while the leading process measures and saves
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model; its rank is its number, from 0."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process measures, saves and writes for all."""
        return self.rank == 0

    def share(self, rows: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "share ..."]:
        """Return this process's part of a batch; parts differ by one row at most."""
        return rows.tensor_split(self.count)[self.rank] if self.count > 1 else rows

    def gathered(self, share: Shaped[Tensor, "share ..."], total: int) -> Shaped[Tensor, "all ..."]:
        """Return the ``total`` rows of all shares, in order, with their gradient.

        Every process must continue to the same loss. The gradient of a share is ``count`` times the
        gradient there, so that ``average`` gives the gradient of the whole batch.
        """
        if self.count == 1:
            return share
        return cast("Tensor", _Gathered.apply(share, total, self))  # type: ignore[no-untyped-call]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.count == 1:
            return
        # One message: the latency of one per parameter would exceed its transfer time.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def agree(self, facts: Mapping[str, bytes]) -> None:
        """Check that all processes hold the same bytes under each name.

        Raises:
            TrainingError: they do not; every process raises it.
        """
        if self.count == 1:
            return
        mine = {name: hashlib.sha256(fact).hexdigest() for name, fact in facts.items()}
        digests: list[Any] = [None] * self.count
        dist.all_gather_object(digests, mine)
        for rank, theirs in enumerate(digests):
            for name in facts:
                if theirs[name] != digests[0][name]:
                    raise TrainingError(
                        f"Rank {rank} of {self.count} differs from rank 0 in its {name}; all must "
                        "read the same files with the same packages."
                    )


ALONE = Ranks()


class _Gathered(torch.autograd.Function):
    """The shares of all processes, one after another."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, total: int, ranks: Ranks) -> Tensor:
        """Return ``total`` rows; shorter shares are padded by a row, since all must be equal."""
        ctx.ranks, least = ranks, total // ranks.count
        sizes = [least + (rank < total % ranks.count) for rank in range(ranks.count)]
        sent = share.new_zeros((max(sizes), *share.shape[1:]))
        sent[: len(share)] = share
        parts = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(parts, sent)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return this process's rows of the gradient, which every process has in full."""
        return ctx.ranks.count * ctx.ranks.share(grads[0]), None, None


def join(device: str) -> Ranks:
    """Return this process among those of the job, connected with the others.

    Raises:
        TrainingError: there are more processes than GPUs.
    """
    if processes.count() == 1:
        return ALONE
    ranks = Ranks(processes.rank(), processes.count())
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"Rank {ranks.rank} has no GPU of its own, as this machine has "
                f"{torch.cuda.device_count()}; start one process per GPU."
            )
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=processes.store(),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=_PATIENCE,
        )
    return ranks


def leave(ranks: Ranks) -> None:
    """End the connection that ``join`` made."""
    if ranks.count > 1:
        dist.destroy_process_group()


def synced(net: nn.Module, device: str) -> nn.Module:
    """Return the net with batch norm that takes its statistics over all ranks.

    Raises:
        ModelError: it has a batch norm of another kind.
    """
    for name, module in list(net.named_modules()):
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if type(module) not in _NORMS:
            raise ModelError(
                f"{name} is a {type(module).__name__}, whose statistics cannot be shared between "
                "ranks; train this model in one process."
            )
        parent, _, last = name.rpartition(".")
        setattr(net.get_submodule(parent), last, _synced(module, device))
    return net


def _synced(norm: nn.modules.batchnorm._BatchNorm, device: str) -> nn.modules.batchnorm._BatchNorm:
    kind = nn.SyncBatchNorm if device == "cuda" else SyncedBatchNorm
    made = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    made.train(norm.training)
    return made


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over all processes on a CPU, which torch offers for GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept an input of any shape."""

    def forward(self, input: Float[Tensor, "share channels ..."]) -> Tensor:
        """Return the normalized input; in training, with the statistics of all processes."""
        if not self.training:
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        shape = (1, -1, *(1,) * (input.ndim - 2))
        here = input.new_tensor([float(input.numel() // input.shape[1])])
        count = _summed(here)
        mean = _summed(input.sum(dims)) / count
        centered = input - mean.view(shape)
        variance = _summed(centered.square().sum(dims)) / count
        self._note(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return centered * scale.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor) -> None:
        if self.track_running_stats and self.running_mean is not None:
            share = 0.0 if self.momentum is None else self.momentum
            cast("Tensor", self.num_batches_tracked).add_(1)
            self.running_mean.lerp_(mean, share)
            cast("Tensor", self.running_var).lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, here: Tensor) -> Tensor:  # noqa: ARG004
        total = here.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _summed(here: Tensor) -> Tensor:
    return cast("Tensor", _Sum.apply(here))  # type: ignore[no-untyped-call]
