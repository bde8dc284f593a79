"""A memory bank: the latest embeddings, first in, first out."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bank(nn.Module):
    """Holds the last ``size`` embeddings that it was given.

    All its state is in buffers, so that the bank of a killed run is that of its last checkpoint.

    Differs from the paper: RoCLIP's and SafeCLIP's code fills the bank with random vectors to begin
    with, and images are matched with those until they are overwritten. This one begins empty, and
    while it is, a query is its own neighbor's stand-in (see ``nearest``).
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("appended", torch.zeros((), dtype=torch.long))

    @property
    def held(self) -> Float[Tensor, "held dim"]:
        """The embeddings in the bank, in no particular order."""
        return cast("Tensor", self.rows)[: int(cast("Tensor", self.appended))]

    @torch.no_grad()
    def nearest(
        self, queries: Float[Tensor, "batch dim"], otherwise: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch dim"]:
        """Return, without a gradient, what the bank holds nearest to each query.

        Args:
            queries: L2-normalized, as is what the bank holds.
            otherwise: what is returned while the bank is empty.
        """
        held = self.held
        return held[(queries @ held.T).argmax(dim=1)] if len(held) else otherwise.detach()

    @torch.no_grad()
    def append(self, embeds: Float[Tensor, "batch dim"]) -> None:
        """Take in embeddings, over the oldest ones."""
        rows, appended = cast("Tensor", self.rows), cast("Tensor", self.appended)
        latest = embeds[-len(rows) :]
        skipped = len(embeds) - len(latest)
        places = torch.arange(len(latest), device=rows.device) + appended + skipped
        rows[places % len(rows)] = latest.to(rows)
        appended += len(embeds)
