"""Portable arithmetic: the same bits on every x86-64 processor that has AVX2, of either maker.

Numerical libraries choose their kernels by the processor. Kernels differ in the order of sums and
in the width of vectors, so they round differently. Here each library is limited to kernels that
every such processor runs. The matrix products of torch go to numpy's OpenBLAS: MKL, which torch
uses, chooses by the maker too, and its only portable mode takes twice as long.
"""

import hashlib
import math
import os
import platform
import sys
from functools import cache
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
    "avx2": {
        "C library": "4e7616e93fbf",
        "numpy": "4f474548a4c1",
        "scipy": "dce185dc2f6e",
        "torch": "2effdaf77055",
    },
    "sse4.2": {"numpy": "6b38863c8df9", "scipy": "6b38863c8df9", "torch": "c23d8a8eb6a8"},
}
"""The digests of the self-test at each level."""


def prepare(arithmetic: Arithmetic) -> None:
    """Limit the libraries of this process; none of them may be imported before.

    ``fastest`` leaves their choice to them. Both kinds of arithmetic use one thread.
    """
    for name in (*_LIMITS["avx2"], "NPY_ENABLE_CPU_FEATURES"):
        os.environ.pop(name, None)  # a limit of the user, or of the process that started this one
    os.environ.update(THREADS)
    if arithmetic == "portable":
        os.environ.update(_LIMITS.get(_level(), {}))


def start(arithmetic: Arithmetic, device: str) -> None:
    """On the CPU, test the imported libraries against their limits, and route torch's products.

    Raises:
        LibraryError: a library does not compute the bits that portable arithmetic has.
    """
    level = _level()
    if arithmetic == "fastest" or device != "cpu" or not level:
        return
    for library, bits in self_test(level).items():
        if bits != _BITS[level][library]:
            is_package = library in metadata.packages_distributions()
            version = metadata.version(library) if is_package else " ".join(platform.libc_ver())
            advice = "install the versions of pyproject.toml, or " if is_package else ""
            raise LibraryError(
                f"{library} {version} computes other bits than portable arithmetic ({level}) has; "
                f"{advice}set `arithmetic: fastest` in params.yaml."
            )
    from clipmend.model.products import route

    route()


def describe(arithmetic: Arithmetic) -> str:
    """Return the arithmetic on this machine as cards record it, such as ``portable avx2``."""
    if arithmetic == "fastest":
        return arithmetic
    return f"portable {_level() or platform.machine()}"


@cache
def _level() -> str:
    """Return the level of this processor; "" if it is not an x86-64."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    try:
        flags = set(CPU_INFO.read_text(encoding="utf-8").split())
    except OSError:
        flags = _FLAGS
    return "avx2" if flags >= _FLAGS else "sse4.2"


def self_test(level: str) -> dict[str, str]:
    """Return a digest of what numpy, scipy, torch and the C library compute, by their name.

    scipy and torch are tested if they are imported. Below AVX2, functions such as ``exp`` come
    from the C library, which chooses by the processor: they are not tested there.
    """
    import numpy as np

    # Fractions of small integers: exact inputs on every machine, without a random stream.
    values = (np.arange(96 * 128) * 7919 % 1009 / 1009).astype(np.float32).reshape(96, 128)
    results: dict[str, list[Any]] = {"numpy": [values @ values.T[:, :50]]}
    if level == "avx2":
        numbers = values[0].astype(np.float64)
        functions = (math.exp, math.sin, math.log1p, math.tanh)
        results["C library"] = [np.array([f(x) for f in functions for x in numbers.tolist()])]
        results["numpy"] += [np.exp(values), np.log1p(numbers), np.power(numbers, 0.3)]
    if "scipy.linalg" in sys.modules:
        from scipy.linalg import blas

        results["scipy"] = [blas.sgemm(1.0, values, values[:50], trans_b=True)]
    if "torch" in sys.modules:
        import torch

        rows = torch.from_numpy(values)
        # oneDNN chooses its kernel by the number of channels, and by the processor from 16 on.
        images, kernels = rows.view(2, 96, 8, 8)[:, :64], rows.flatten()[:9216].view(16, 64, 3, 3)
        results["torch"] = [
            torch.nn.functional.conv2d(images, kernels, padding=1).numpy(),
            torch.linalg.qr(rows).R.numpy(),
            rows.exp().softmax(dim=1).sum(dim=0).numpy(),
            torch.randn(256, generator=torch.Generator().manual_seed(0)).numpy(),
        ]
    return {library: _digest(arrays) for library, arrays in results.items()}


def _digest(arrays: list[Any]) -> str:
    content = b"".join(array.tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:12]
