"""A library whose `cpuid` is replaced reads the table of another processor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studies.processors.disguise import disguise

VENDOR = """
#include <cpuid.h>
unsigned vendor(void) { unsigned a, b, c, d; __cpuid(0, a, b, c, d); return b; }
"""
INTEL = 0x756E6547  # "Genu", the first letters of Intel's name for itself
ASK = "import ctypes, sys; print(ctypes.c_uint(ctypes.CDLL(sys.argv[1]).vendor()).value)"


@pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "objdump", "readelf"))), reason="needs gcc and binutils"
)
def test_a_disguised_library_takes_the_processor_for_another(tmp_path: Path) -> None:
    (tmp_path / "vendor.c").write_text(VENDOR)
    library, answer, table = (tmp_path / name for name in ("vendor.so", "answer.so", "table.txt"))
    build = ("gcc", "-O2", "-shared", "-fPIC", "-o")
    subprocess.run([*build, library, tmp_path / "vendor.c"], check=True)
    subprocess.run([*build, answer, disguise.HERE / "answer.c"], check=True)
    table.write_text(f"0 0 d {INTEL:x} 6c65746e 49656e69\n")
    original = tmp_path / "original.so"
    os.link(library, original)
    before = original.read_bytes()

    assert disguise.disguise(library) == 1
    assert original.read_bytes() == before  # a hard link to the environment's own file
    environment = os.environ | {"LD_PRELOAD": str(answer), "DISGUISE": str(table)}
    command = [sys.executable, "-c", ASK, str(library)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(output.stdout) == INTEL
