"""torch's matrix products on the CPU, computed by numpy's OpenBLAS."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Kernel = Callable[..., Tensor]

_TYPES = (torch.float32, torch.float64)  # numpy has BLAS products of these types alone
_libraries: list[torch.library.Library] = []  # one that is garbage-collected removes its kernels


def route() -> None:
    """Replace the kernels of ``mm``, ``bmm``, ``addmm`` and ``baddbmm`` in this process.

    They lie below autograd, so backward passes use them too. Products of other types than 32 and
    64 bits keep the kernels of torch.
    """
    if _libraries:
        return
    # The fused attention calls MKL inside; the other implementation consists of routed products.
    torch.backends.cuda.enable_flash_sdp(enabled=False)
    torch.backends.mha.set_fastpath_enabled(False)
    library = torch.library.Library("aten", "IMPL")
    replaced = {"mm": _product, "bmm": _product, "addmm": _sum, "baddbmm": _sum}
    with warnings.catch_warnings():  # torch warns of every kernel that is replaced
        warnings.simplefilter("ignore")
        for name, kernel in replaced.items():
            original = torch.library.get_kernel(f"aten::{name}", "CPU")
            dimensions = 3 if "bmm" in name else 2
            library.impl(name, kernel(original, dimensions), "CPU", with_keyset=True)
    _libraries.append(library)


def _product(original: Any, dimensions: int) -> Kernel:
    """Return the kernel of ``mm`` or ``bmm``."""

    def product(keys: torch.DispatchKeySet, a: Tensor, b: Tensor) -> Tensor:
        if not _is_routed(dimensions, a, b):
            result: Tensor = original.call_boxed(keys, a, b)
            return result
        return _matmul(a, b)

    return product


def _sum(original: Any, dimensions: int) -> Kernel:
    """Return the kernel of ``addmm`` or ``baddbmm``: ``beta`` bias + ``alpha`` a b."""

    def biased(
        keys: torch.DispatchKeySet,
        bias: Tensor,
        a: Tensor,
        b: Tensor,
        *,
        beta: float = 1,
        alpha: float = 1,
    ) -> Tensor:
        # With `alpha` 0, torch does not read the product, which may hold NaN.
        if alpha == 0 or not _is_routed(dimensions, a, b, bias):
            result: Tensor = original.call_boxed(keys, bias, a, b, beta=beta, alpha=alpha)
            return result
        product = _matmul(a, b)
        if alpha != 1:
            product.mul_(alpha)
        # As in BLAS, a bias of weight 0 is not read: it may hold NaN.
        return product if beta == 0 else product.add_(bias, alpha=float(beta))

    return biased


def _is_routed(dimensions: int, a: Tensor, b: Tensor, bias: Tensor | None = None) -> bool:
    """Return whether numpy has the product; shapes that do not fit are left to torch's error."""
    tensors = (a, b) if bias is None else (a, b, bias)
    return (
        a.dtype in _TYPES
        and all(tensor.dtype is a.dtype for tensor in tensors)
        and a.ndim == b.ndim == dimensions
        and a.shape[-1] == b.shape[-2]
        and a.shape[:-2] == b.shape[:-2]
    )


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    # Memory of torch is aligned to 64 bytes, that of numpy is not.
    out = torch.empty(*a.shape[:-1], b.shape[-1], dtype=a.dtype)
    np.matmul(a.detach().numpy(), b.detach().numpy(), out=out.numpy())
    return out
