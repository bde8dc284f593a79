"""Portable arithmetic: the same bits on processors of two makers, and as torch computes them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clipmend.errors import LibraryError
from clipmend.model import arithmetic

ROOT = Path(__file__).parents[2]
EMULATOR = shutil.which("qemu-x86_64")
RUN = Path(__file__).with_name("portable_run.py")
PRODUCTS = """
import torch
from clipmend.model.products import route

a, b, c = (torch.randn(5, 7, dtype=dtype, requires_grad=True) for dtype in [{dtype}] * 3)
cases = lambda: [
    a @ b.T,
    torch.addmm(c[:, :5], a, b.T, beta=0.5, alpha=2),
    torch.addmm(torch.full((5, 5), torch.nan, dtype=a.dtype), a, b.T, beta=0),
    torch.bmm(a.expand(3, 5, 7), b.T.expand(3, 7, 5)),
    torch.baddbmm(c[:, :5].expand(3, 5, 5), a.expand(3, 5, 7), b.T.expand(3, 7, 5)),
    torch.nn.functional.linear(a, b, c[0, :5]),
    a[:0] @ b.T,
    a[:, :0] @ b[:, :0].T,
]
def results():
    products = cases()
    return products + list(torch.autograd.grad(sum(p.sin().sum() for p in products), (a, b, c)))
before = results()
route()
for old, new in zip(before, results(), strict=True):
    torch.testing.assert_close(new, old)
whole = torch.arange(9).view(3, 3)
assert torch.equal(whole @ whole, (whole.double() @ whole.double()).long())
"""


def start(*command: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.float64", "torch.bfloat16"])
def test_a_routed_product_and_its_gradient_are_those_of_torch(dtype: str) -> None:
    done = start(sys.executable, "-c", PRODUCTS.format(dtype=dtype))
    assert done.communicate()[1] == ""
    assert done.returncode == 0


def test_every_library_of_this_process_has_the_bits_of_portable_arithmetic() -> None:
    import scipy.linalg  # noqa: F401

    assert set(arithmetic.self_test()) == {"numpy", "scipy", "torch"}
    arithmetic.start("portable", "cuda")  # on a GPU the libraries are tested, and not routed


def test_a_library_that_ignores_its_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "self_test", lambda: {"numpy": "other bits"})
    with pytest.raises(LibraryError, match=r"numpy \d.*computes other bits .* `arithmetic: fast"):
        arithmetic.start("portable", "cpu")
    arithmetic.start("fastest", "cpu")


def test_a_processor_without_avx2_has_a_lower_portable_level(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(arithmetic, "CPU_INFO", tmp_path / "cpuinfo")
    arithmetic.CPU_INFO.write_text("flags : sse4_2 avx f16c")
    assert arithmetic.describe("portable") == "portable sse4.2"
    arithmetic.CPU_INFO.write_text("flags : sse4_2 avx avx2 fma bmi2 f16c avx512f")
    assert arithmetic.describe("portable") == "portable avx2"
    assert arithmetic.describe("fastest") == "fastest"


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64, of Debian's package qemu-user")
def test_a_run_has_the_same_bytes_on_processors_of_two_makers(tmp_path: Path) -> None:
    native = [sys.executable, str(RUN)]
    runs = {
        "native": start(*native, str(tmp_path / "native")),
        **{
            model: start(str(EMULATOR), "-cpu", model, *native, str(tmp_path / model))
            for model in ("Skylake-Client", "EPYC-Rome")
        },
    }
    outputs = {name: run.communicate() for name, run in runs.items()}
    failed = {name: outputs[name][1][-3000:] for name, run in runs.items() if run.returncode}
    assert failed == {}
    digests = {name: json.loads(text.splitlines()[-1]) for name, (text, _) in outputs.items()}
    assert len(digests["native"]) > 15
    for model in ("Skylake-Client", "EPYC-Rome"):
        assert digests[model] == digests["native"], model


def test_tests_are_limited_before_torch_is_imported() -> None:
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT")
