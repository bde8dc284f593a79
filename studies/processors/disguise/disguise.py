"""Copy an environment whose libraries take this processor for another one.

    python studies/processors/disguise/disguise.py .venv disguised Haswell

Every `cpuid` instruction in the copy's libraries is replaced, so that `answer.so` answers in place
of the processor. The answers are those of a processor that qemu emulates. All other instructions
run as they are, at full speed; only the choice of kernels is that of the other processor.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CPUID, TRAP = b"\x0f\xa2", b"\x0f\x0b"  # the second is `ud2`, which raises SIGILL
_SEGMENT = re.compile(r"^  LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) 0x[0-9a-f]+ 0x([0-9a-f]+)", re.M)
_SITE = re.compile(r"^ *([0-9a-f]+):\tcpuid", re.M)


def main() -> int:
    """Make the copy and print the variables that a command in it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", type=Path, help="a virtual environment")
    parser.add_argument("copy", type=Path, help="the new folder")
    parser.add_argument("processor", help="a name that `qemu-x86_64 -cpu help` lists")
    options = parser.parse_args()
    options.copy.mkdir(parents=True)
    _run("cp", "-al", f"{options.environment.resolve()}/.", str(options.copy))
    sites = sum(map(disguise, sorted(options.copy.rglob("*.so*"))))
    _move_scripts(options.environment.resolve(), options.copy.resolve())
    variables = prepare(options.copy, options.processor)
    sys.stderr.write(f"{sites} instructions are replaced.\n")
    sys.stdout.writelines(f"export {name}={value}\n" for name, value in variables.items())
    return 0


def disguise(library: Path) -> int:
    """Replace each `cpuid` of a library by a trap, and return how many there were.

    The file is written anew, since it may be a hard link to the original.
    """
    data = bytearray(library.read_bytes())
    if CPUID not in data or not data.startswith(b"\x7fELF"):
        return 0
    places = list(_places(library))
    for place in places:
        if data[place : place + 2] != CPUID:
            raise SystemExit(f"{library}: no cpuid at offset {place}")
        data[place : place + 2] = TRAP
    mode = library.stat().st_mode
    library.unlink()
    library.write_bytes(data)
    library.chmod(mode)
    return len(places)


def prepare(folder: Path, processor: str) -> dict[str, str]:
    """Compile the library that answers, write the table, and return the variables to set."""
    answer, ask, table = folder / "answer.so", folder / "ask", folder / f"{processor}.txt"
    _run("gcc", "-O2", "-shared", "-fPIC", "-o", str(answer), str(HERE / "answer.c"))
    _run("gcc", "-O2", "-static", "-o", str(ask), str(HERE / "ask.c"))
    table.write_text(_run("qemu-x86_64", "-cpu", processor, str(ask)), encoding="utf-8")
    return {
        "LD_PRELOAD": str(answer.resolve()),
        "DISGUISE": str(table.resolve()),
        "PATH": f"{folder.resolve() / 'bin'}:$PATH",
        # The C library asks before any other code runs, so it gets its limit in this way.
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512CD,-AVX512BW,-AVX512DQ,-AVX512VL",
    }


def _places(library: Path) -> Iterator[int]:
    """Yield the offset in the file of each `cpuid` that a disassembly shows."""
    headers = _run("readelf", "-lW", str(library))
    segments = [tuple(int(part, 16) for part in row) for row in _SEGMENT.findall(headers)]
    for found in _SITE.findall(_run("objdump", "-d", "--no-show-raw-insn", str(library))):
        address = int(found, 16)
        for offset, start, size in segments:
            if start <= address < start + size:
                yield address - start + offset
                break


def _move_scripts(old: Path, new: Path) -> None:
    """Let the scripts of the copy start its own Python."""
    line = f"#!{old}/".encode()
    for script in (new / "bin").iterdir():
        if script.is_file() and not script.is_symlink() and script.read_bytes().startswith(line):
            text, mode = script.read_bytes(), script.stat().st_mode
            script.unlink()
            script.write_bytes(text.replace(line, f"#!{new}/".encode(), 1))
            script.chmod(mode)


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env=os.environ | {"LC_ALL": "C"}
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
