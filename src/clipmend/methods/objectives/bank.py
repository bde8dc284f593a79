"""A memory bank of the latest embeddings, shared by RoCLIP and SafeCLIP."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bank(nn.Module):
    """Holds the last ``size`` embeddings, first in, first out.

    All its state is in buffers, so that a checkpoint of the loss contains it.

    Differs from the paper: the code of RoCLIP and SafeCLIP fills the bank with random vectors.
    Images are matched with those until they are overwritten. This bank starts empty (see
    ``nearest``).
    """

    rows: Tensor
    appended: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("appended", torch.zeros((), dtype=torch.long))

    @property
    def held(self) -> Float[Tensor, "held dim"]:
        """The embeddings in the bank, in no particular order."""
        return self.rows[: int(self.appended)]

    @torch.no_grad()
    def nearest(
        self, queries: Float[Tensor, "batch dim"], otherwise: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the embedding in the bank that is nearest to each query, without a gradient.

        Args:
            queries: L2-normalized, as the embeddings in the bank.
            otherwise: the result while the bank is empty.
        """
        held = self.held
        return held[(queries @ held.T).argmax(dim=1)] if len(held) else otherwise.detach()

    @torch.no_grad()
    def append(self, embeds: Float[Tensor, "batch dim"]) -> None:
        """Add embeddings, replacing the oldest."""
        # A batch larger than the bank would write some rows twice, in an undefined order.
        latest = embeds[-len(self.rows) :]
        skipped = len(embeds) - len(latest)
        places = torch.arange(len(latest), device=self.rows.device) + self.appended + skipped
        self.rows[places % len(self.rows)] = latest.to(self.rows)
        self.appended += len(embeds)
