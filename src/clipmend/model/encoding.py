"""Encode a batch with less memory or less work, to the same embeddings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

Precision = Literal["auto", "fp32", "bf16"]
_STEP = 8  # positions; a GPU cuts texts to multiples of it, so that few shapes are compiled


def in_chunks(
    net: nn.Module,
    batch: Shaped[Tensor, "batch ..."],
    encode: Callable[[Tensor], Tensor],
    chunks: int,
) -> Float[Tensor, "batch dim"]:
    """Return the embeddings of a batch, encoded in ``chunks`` parts of about equal size.

    Only the activations of one chunk are in memory. The backward pass recomputes the others (as
    GradCache, arXiv:2101.06983), so the loss has the gradient of the whole batch. The statistics
    of batch norm are those of a chunk.
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
    """Wrap ``encode`` so that an empty batch returns an empty result.

    A rank has an empty share if a batch has fewer samples than there are ranks.
    """

    def encoded(batch: Tensor) -> Tensor:
        # Batch norm accepts an empty batch, and would count a blank sample in its statistics.
        if len(batch) or _has_batch_norm(tower):
            return encode(batch)
        return encode(batch.new_zeros(1, *batch.shape[1:]))[:0]

    return encoded


def _has_batch_norm(tower: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in tower.modules())


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm: a recomputed chunk was counted before."""
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
    """Return L2-normalized text embeddings, computed up to the end of the texts.

    On a CPU, equal texts are encoded once, and short ones apart from long ones. On a GPU, where
    a second pass costs more than it saves, all are cut to the end of the longest.

    Args:
        tokens: on the CPU, so that their length is known without waiting for a GPU.
    """
    # Under a causal mask, positions after the end of a text do not change its embedding. Most
    # captions fill a fifth of the 77 positions of CLIP.
    mask = getattr(net, "attn_mask", None)
    if mask is None or getattr(net, "text_pool_type", "") != "argmax":
        ids = tokens.to(device, non_blocking=True)
        return cast("Tensor", net.encode_text(ids, normalize=True))  # type: ignore[operator]
    if device.type != "cpu" or not len(tokens):
        return _cut_texts(net, tokens, device)
    distinct, position = tokens.unique(dim=0, return_inverse=True)
    steps = distinct.argmax(dim=1) // _STEP
    groups = [(steps == step).nonzero().flatten() for step in steps.unique()]
    embeds = torch.cat([_cut_texts(net, distinct[rows], device) for rows in groups])
    # Grouping has sorted the texts by length: undo that, and repeat the equal ones.
    return embeds[torch.cat(groups).argsort()[position]]


def _cut_texts(net: nn.Module, tokens: Tensor, device: torch.device) -> Tensor:
    """Return the embeddings of texts that are cut to the longest, in steps on a GPU."""
    longest = int(tokens.argmax(dim=1).max()) + 1 if len(tokens) else 1
    if device.type != "cpu":
        longest = min(-(-longest // _STEP) * _STEP, tokens.shape[1])
    places = cast("Tensor", net.positional_embedding)[:longest]
    mask = cast("Tensor", net.attn_mask)[:longest, :longest].contiguous()
    cut = tokens[:, :longest].contiguous()
    ids = (cut.pin_memory() if device.type == "cuda" else cut).to(device, non_blocking=True)
    shorter = {"positional_embedding": places, "attn_mask": mask}
    output = functional_call(net, shorter, (), {"text": ids})
    return cast("Tensor", output["text_features"] if isinstance(output, dict) else output[1])
