"""The card of a cell: what its key is made of, what it read, what it wrote, and where."""

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
    """Return a cell's card, or None where there is none that can be read."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(card, dict) and {"cell", "key", "inputs", "outputs"} <= card.keys()
    return card if whole else None


def write(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card so that it is there whole, or not at all."""
    fresh = folder / f".{CARD}.new"
    fresh.write_text(canonical(card, indent=1) + "\n")
    fresh.replace(folder / CARD)


def canonical(value: object, indent: int | None = None) -> str:
    """Return the one JSON text of a value."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        value, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False
    )


def outputs(folder: Path, index: Index) -> dict[str, dict[str, Any]]:
    """Return size and hash of every file in a folder but its card, by relative name."""
    return {
        name: {"sha256": index.sha256(folder / name), "size": (folder / name).stat().st_size}
        for name in names(folder)
        if name != CARD
    }


def below(results: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield every cell that has a card below a folder, sorted, None for one that is not whole."""
    for path in sorted(results.rglob(CARD)):
        yield path.parent.relative_to(results).as_posix(), read(path.parent)


def names(folder: Path) -> list[str]:
    """Return the relative names of all files below a folder, sorted."""
    return sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, found in os.walk(folder)
        for name in found
    )


def damage(folder: Path, card: Mapping[str, Any], index: Index) -> str | None:
    """Return how a cell's files differ from its card, or None if they are what it says."""
    for name, written in card["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written["size"] or index.sha256(path) != written["sha256"]:
            return f"{name} is not what its card says"
    return None


def as_read(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job notes of an input: its cell, its key and the hashes of its files."""
    hashes = {name: written["sha256"] for name, written in card["outputs"].items()}
    return {"cell": card["cell"], "key": card["key"], "outputs": hashes}


def environment(device: str) -> dict[str, Any]:
    """Return where a cell was made: recorded, and never a reason to make it again."""
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
    """Return the machine's class: kernels choose their arithmetic by the widest vectors it has.

    By its maker too: the same vectors are not added in the same order on all of them.
    """
    machine = platform.machine()
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return machine if sys.platform != "darwin" else f"{machine} neon"
    words = set(told.split())
    maker = next((name for vendor, name in _MAKERS.items() if vendor in words), "")
    vectors = next((name for name in _VECTORS if name in words), "")
    return " ".join(part for part in (machine, maker, vectors) if part)
