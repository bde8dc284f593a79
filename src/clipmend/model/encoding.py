"""Encoding a batch with less memory or less work, to the same embeddings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

Precision = Literal["auto", "fp32", "bf16"]
_STEP = 8  # texts are cut to a multiple of it, so that there are few shapes to compile for


def in_chunks(
    net: nn.Module,
    batch: Shaped[Tensor, "batch ..."],
    encode: Callable[[Tensor], Tensor],
    chunks: int,
) -> Float[Tensor, "batch dim"]:
    """Return the embeddings of a batch, encoded in so many chunks of about one size.

    The activations of one chunk alone are in memory: those of the others are computed again when
    the gradient comes to them (as GradCache, arXiv:2101.06983). Any loss over the embeddings so has
    the gradient of the whole batch; batch norm sees a chunk.
    """
    if chunks == 1:
        return encode(batch)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(net)

    parts = [
        checkpoint(encode, part, use_reentrant=False, context_fn=contexts)
        for part in batch.tensor_split(chunks)
    ]
    return torch.cat(cast("list[Tensor]", parts))


def allow_empty(encode: Callable[[Tensor], Tensor], tower: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return ``encode`` for a batch of no sample too, which a tower may refuse.

    It is the share of a rank whose batch has fewer samples than there are ranks. A blank sample is
    encoded and left out, but not where batch norm would count it; such towers take an empty batch.
    """

    def encoded(batch: Tensor) -> Tensor:
        if len(batch) or _counts(tower):
            return encode(batch)
        return encode(batch.new_zeros(1, *batch.shape[1:]))[:0]

    return encoded


def _counts(tower: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in tower.modules())


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Let batch norm normalize as ever, and forget what it saw: it has seen it before."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    held = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms if norm.training]
    for norm, buffers in held:
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in held:
            for name, value in buffers.items():
                setattr(norm, name, value)


def short_texts(
    net: nn.Module, tokens: Int[Tensor, "batch context"], device: torch.device
) -> Float[Tensor, "batch dim"]:
    """Return L2-normalized text embeddings from as many positions as the longest text has.

    What follows the end of a text changes nothing under a causal mask, and the embedding is read at
    the end. Most captions fill a fifth of CLIP's 77 positions.

    Args:
        tokens: on the CPU, so that their length is known without waiting for a GPU.
    """
    mask = getattr(net, "attn_mask", None)
    if mask is None or getattr(net, "text_pool_type", "") != "argmax":
        ids = tokens.to(device, non_blocking=True)
        return cast("Tensor", net.encode_text(ids, normalize=True))  # type: ignore[operator]
    longest = int(tokens.argmax(dim=1).max()) + 1
    length = min(-(-longest // _STEP) * _STEP, tokens.shape[1])
    places = cast("Tensor", net.positional_embedding)[:length]
    shorter = {"positional_embedding": places, "attn_mask": mask[:length, :length].contiguous()}
    shown = tokens[:, :length].contiguous()
    ids = (shown.pin_memory() if device.type == "cuda" else shown).to(device, non_blocking=True)
    found = functional_call(net, shorter, (), {"text": ids})
    return cast("Tensor", found["text_features"] if isinstance(found, dict) else found[1])
