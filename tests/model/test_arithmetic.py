"""Portable arithmetic: the same bits on processors of two makers, and as torch computes them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
unread = lambda: torch.addmm(c[:, :5], a * torch.nan, b.T, alpha=0)
before, unread_before = results(), unread()
route()
for old, new in zip(before, results(), strict=True):
    torch.testing.assert_close(new, old)
torch.testing.assert_close(unread(), unread_before, equal_nan=True)
for wrong in (lambda: torch.mm(a, b), lambda: torch.mm(a[None], b.T), lambda: torch.bmm(a, b)):
    try:
        wrong()
    except RuntimeError:
        continue
    raise AssertionError("torch refuses this product")
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


def test_every_library_has_the_bits_of_portable_arithmetic() -> None:
    code = """
from clipmend.model import arithmetic
arithmetic.prepare("portable")
import scipy.linalg, torch
level = arithmetic.describe("portable").removeprefix("portable ")
assert arithmetic.self_test(level) == arithmetic._BITS[level], arithmetic.self_test(level)
"""
    assert start(sys.executable, "-c", code).communicate() == ("", "")


@pytest.mark.parametrize(
    ("variable", "other", "library"),
    [
        ("OPENBLAS_CORETYPE", "Nehalem", "numpy"),
        ("NPY_DISABLE_CPU_FEATURES", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR", "numpy"),
        ("ATEN_CPU_CAPABILITY", "default", "torch"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41", "torch"),
    ],
)
def test_a_library_with_another_limit_is_named(variable: str, other: str, library: str) -> None:
    code = f"""
import os
from clipmend.model import arithmetic
arithmetic.prepare("portable")
os.environ[{variable!r}] = {other!r}
import torch
try:
    arithmetic.start("portable", "cpu")
except Exception as error:
    print(type(error).__name__, error)
arithmetic.start("fastest", "cpu")
arithmetic.start("portable", "cuda")
"""
    output, errors = start(sys.executable, "-c", code).communicate()
    assert errors == ""
    assert re.match(rf"LibraryError {library} \d.* computes other bits .*`arithmetic: fas", output)


def test_the_fastest_arithmetic_has_no_limit_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "4"})
    arithmetic.prepare("fastest")
    assert "MKL_CBWR" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_processor_without_avx2_has_a_lower_portable_level(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(arithmetic, "_level", arithmetic._level.__wrapped__)  # it is read once
    monkeypatch.setattr(arithmetic, "CPU_INFO", tmp_path / "cpuinfo")
    arithmetic.CPU_INFO.write_text("flags : sse4_2 avx f16c")
    assert arithmetic.describe("portable") == "portable sse4.2"
    arithmetic.CPU_INFO.write_text("flags : sse4_2 avx avx2 fma bmi2 f16c avx512f")
    assert arithmetic.describe("portable") == "portable avx2"
    assert arithmetic.describe("fastest") == "fastest"


def test_no_code_uses_a_function_whose_last_bit_depends_on_the_maker() -> None:
    """MKL computes these from approximate reciprocals, which differ between makers.

    Found by replacing each such instruction in torch by a trap (studies/processors).
    """
    inexact = re.compile(r"(?:\w|\)|\])\.(?:sqrt|log2|log10|acos)\(|\boptim\.\w+\(")
    sources = (ROOT / "src" / "clipmend").rglob("*.py")
    allowed = re.compile(r"\b(?:math|np)\.|^class ")
    lines = [line for path in sources for line in path.read_text().splitlines()]
    assert [line for line in lines if inexact.search(line) and not allowed.search(line)] == []


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
