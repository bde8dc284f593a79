"""The card of a cell: the ingredients of its key, its inputs, its outputs, its environment."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from clipmend.engine.index import Index

CARD = "card.json"

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "numpy",
    "pyarrow",
    "pillow",
    "pandas",
    "scikit-learn",
    "scipy",
    "safetensors",
    "matplotlib",
    "jinja2",
)
"""Packages whose version can change a cell's bytes; recorded, never in a key."""

_MAKERS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
_VECTORS = ("avx512_bf16", "avx512f", "avx2", "avx", "asimd")


def read(folder: Path) -> dict[str, Any] | None:
    """Return the card of a cell, or None if no readable card exists."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return None
    is_complete = isinstance(card, dict) and {"cell", "key", "inputs", "outputs"} <= card.keys()
    return card if is_complete else None


def write(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card atomically."""
    fresh = folder / f".{CARD}.new"  # renamed into place, so that no half-written card exists
    fresh.write_text(canonical(card, indent=1) + "\n", encoding="utf-8")
    fresh.replace(folder / CARD)


def canonical(value: object, indent: int | None = None) -> str:
    """Return the canonical JSON text of a value."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        value, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False
    )


def outputs(folder: Path, index: Index) -> dict[str, dict[str, Any]]:
    """Return the size and hash of every file in a folder except its card, by relative name."""
    return {
        name: {"sha256": index.sha256(folder / name), "size": (folder / name).stat().st_size}
        for name in names(folder)
        if name != CARD
    }


def below(results: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield each cell with a card below a folder, sorted; None for a card that cannot be read."""
    for path in sorted(results.rglob(CARD)):
        yield path.parent.relative_to(results).as_posix(), read(path.parent)


def names(folder: Path) -> list[str]:
    """Return the relative names of all files below a folder, sorted."""
    return sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder)
        for name in files
    )


def damage(folder: Path, card: Mapping[str, Any], index: Index) -> str | None:
    """Return how the files of a cell differ from its card, or None if they agree."""
    for name, written in card["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written["size"] or index.sha256(path) != written["sha256"]:
            return f"{name} is not what its card says"
    return None


def as_read(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job records of an input: its cell, its key and the hashes of its files."""
    hashes = {name: written["sha256"] for name, written in card["outputs"].items()}
    return {"cell": card["cell"], "key": card["key"], "outputs": hashes}


def environment(device: str) -> dict[str, Any]:
    """Return the environment of a job, which is recorded and in no key."""
    return {
        "python": platform.python_version(),
        "packages": dict(_versions(PACKAGES)),
        "system": platform.system(),
        "cpu": _cpu(),
        "device": device,
    }


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _cpu() -> str:
    """Return the class of the processor: architecture, maker and widest vector instructions."""
    # Kernels choose arithmetic by vector width, and the order of sums by the maker.
    machine = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return machine if sys.platform != "darwin" else f"{machine} neon"
    words = set(text.split())
    maker = next((name for vendor, name in _MAKERS.items() if vendor in words), "")
    vectors = next((name for name in _VECTORS if name in words), "")
    return " ".join(part for part in (machine, maker, vectors) if part)
