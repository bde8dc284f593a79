"""Portable arithmetic: the same bits on every x86-64 processor that has AVX2, of either maker.

Numerical libraries choose their kernels by the processor. Kernels differ in the order of sums and
in the width of vectors, so they round differently. Here each library is limited to kernels that
every such processor runs. The matrix products of torch go to numpy's OpenBLAS: MKL, which torch
uses, chooses by the maker too, and its only portable mode takes twice as long.
"""

import hashlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from clipmend.errors import LibraryError

Arithmetic = Literal["portable", "fastest"]

CPU_INFO = Path("/proc/cpuinfo")
THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
"""One thread in each library: the order of a sum depends on their number."""

_LIMITS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",  # for what still reaches MKL, such as factorizations
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "ARROW_USER_SIMD_LEVEL": "AVX2",
        "FAISS_OPT_LEVEL": "AVX2",
    },
    "sse4.2": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "ARROW_USER_SIMD_LEVEL": "SSE4_2",
        "FAISS_OPT_LEVEL": "GENERIC",
    },
}
_FLAGS = {"avx2", "fma", "bmi2", "f16c"}  # what a processor needs for the level `avx2`

_BITS = {
    "avx2": {"numpy": "587759512204", "scipy": "dce185dc2f6e", "torch": "6ac042cf9d44"},
    "sse4.2": {"numpy": "81960aa9b3ab", "scipy": "6b38863c8df9", "torch": "3415edd322e8"},
}
"""The digests of the self-test at each level."""


def prepare(arithmetic: Arithmetic) -> None:
    """Limit the libraries of this process; none of them may be imported before.

    ``fastest`` leaves their choice to them. Both kinds of arithmetic use one thread.
    """
    os.environ.update(THREADS)
    if arithmetic == "portable":
        os.environ.update(_LIMITS.get(_level(), {}))


def start(arithmetic: Arithmetic, device: str) -> None:
    """Test every imported library against its limits; on the CPU, route torch's products.

    Raises:
        LibraryError: a library does not compute the bits that portable arithmetic has.
    """
    level = _level()
    if arithmetic == "fastest" or not level:
        return
    for library, bits in self_test().items():
        if bits != _BITS[level][library]:
            raise LibraryError(
                f"{library} {metadata.version(library)} computes other bits than portable "
                f"arithmetic ({level}) has; install the versions of pyproject.toml, or set "
                "`arithmetic: fastest` in params.yaml."
            )
    if device == "cpu":
        from clipmend.model.products import route

        route()


def describe(arithmetic: Arithmetic) -> str:
    """Return the arithmetic on this machine as cards record it, such as ``portable avx2``."""
    if arithmetic == "fastest":
        return arithmetic
    return f"portable {_level() or platform.machine()}"


def _level() -> str:
    """Return the level of this processor; "" if it is not an x86-64."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        flags = _FLAGS
    return "avx2" if flags >= _FLAGS else "sse4.2"


def self_test() -> dict[str, str]:
    """Return a digest of what each imported library computes, by the name of its package."""
    import numpy as np

    # Fractions of small integers: exact inputs on every machine, without a random stream.
    values = (np.arange(96 * 128) * 7919 % 1009 / 1009).astype(np.float32).reshape(96, 128)
    results: dict[str, list[Any]] = {
        "numpy": [values @ values.T[:, :50], np.exp(values), np.sin(values.astype(np.float64))]
    }
    if "scipy.linalg" in sys.modules:
        from scipy.linalg import blas

        results["scipy"] = [blas.sgemm(1.0, values, values[:50], trans_b=True)]
    if "torch" in sys.modules:
        import torch

        rows = torch.from_numpy(values)
        images, kernels = rows.view(4, 3, 32, 32), rows[:9, :108].reshape(36, 3, 3, 3)
        results["torch"] = [
            torch.nn.functional.conv2d(images, kernels, padding=1).numpy(),
            (rows @ rows[:50].T).numpy(),
            torch.linalg.qr(rows).R.numpy(),
            rows.exp().softmax(dim=1).sum(dim=0).numpy(),
            torch.randn(256, generator=torch.Generator().manual_seed(0)).numpy(),
        ]
    return {library: _digest(arrays) for library, arrays in results.items()}


def _digest(arrays: list[Any]) -> str:
    content = b"".join(array.tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:12]
