"""The card of a cell: the ingredients of its key, its inputs, its outputs, its environment."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from clipmend.engine import dvc_cache
from clipmend.engine.cell import INGREDIENTS, RESULTS
from clipmend.engine.index import Index

CARD = "card.json"
LIMIT = 256 << 20
"""Bytes; a larger file is not read. A card of a report that reads 100,000 cells has fewer."""

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


def _is_inside(name: str) -> str:
    parts = name.split("/")
    if not name.isprintable() or len(name) > 1000 or "\\" in name:  # a path of Windows
        raise ValueError("cannot be the name of a file")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise ValueError("does not name a file below a folder")
    return name


def _is_output(name: str) -> str:
    if name.partition("/")[0] == CARD:
        raise ValueError("is the card itself")
    return _is_inside(name)


_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_CellName = Annotated[str, AfterValidator(_is_inside)]
_Output = Annotated[str, AfterValidator(_is_output)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Written(_Strict):
    sha256: _Digest
    size: Annotated[int, Field(ge=0)]


class _Read(_Strict):
    cell: _CellName
    key: _Digest
    outputs: dict[_Output, _Digest]


class _Environment(_Strict):
    packages: dict[str, str] = {}


class _Card(_Strict):
    cell: _CellName
    key: _Digest
    inputs: dict[str, _Read]
    outputs: dict[_Output, _Written]
    stage: str = ""
    method: str = ""
    seed: int | None = None
    settings: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    code: dict[str, str] = {}
    files: dict[str, str] = {}
    environment: _Environment = _Environment()


def parse(text: str | bytes) -> dict[str, Any] | None:
    """Return the card that a text holds, or None if it holds none.

    A card may come from a stranger. Its paths are relative, and none leads out of its cell.
    """
    try:
        card: dict[str, Any] = json.loads(text, parse_constant=_refuse)
        _Card.model_validate(card)
    except (ValueError, RecursionError):  # pydantic's errors are ValueErrors
        return None
    return card


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def parse_lines(text: str | bytes) -> dict[str, dict[str, Any]] | None:
    """Return the cards that a text holds, one a line, by cell; None if a line holds none."""
    collected = [parse(line) for line in text.splitlines()]
    cards = [card for card in collected if card is not None]
    return {card["cell"]: card for card in cards} if len(cards) == len(collected) else None


def read(folder: Path) -> dict[str, Any] | None:
    """Return the card of a cell, or None if no readable card exists."""
    path = folder / CARD
    try:
        if not is_own(folder, CARD) or not path.is_file() or path.stat().st_size > LIMIT:
            return None
        return parse(path.read_bytes())
    except OSError:
        return None


def is_own(folder: Path, name: str) -> bool:
    """Return whether a file lies in its folder; a link is allowed to DVC's cache alone."""
    return not is_behind_link(folder) and _is_below(folder, name)


def is_behind_link(folder: Path) -> bool:
    """Return whether a folder, or one between it and ``results/``, is a link."""
    parts = (folder, *folder.parents)
    inside = parts[: parts.index(RESULTS)] if RESULTS in parts else parts[:1]
    return any(path.is_symlink() for path in inside)


def _is_below(folder: Path, name: str) -> bool:
    if any((folder / parent).is_symlink() for parent in Path(name).parents[:-1]):
        return False
    path = folder / name
    return not path.is_symlink() or dvc_cache.holds(os.path.realpath(path), folder)


def has_no_strays(folder: Path) -> bool:
    """Return whether a cell's folder has no other files than its card names."""
    card = read(folder) or {"outputs": ()}
    return {*names(folder)} <= {CARD, *card["outputs"]}


def key(ingredients: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the key of a cell from its ingredients and its inputs' keys by role.

    The name of the cell is an ingredient, since some outputs contain it.
    """
    content = {name: ingredients[name] for name in INGREDIENTS} | {"inputs": dict(inputs)}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def is_genuine(card: Mapping[str, Any]) -> bool:
    """Return whether a card's key is the hash of the ingredients that the card lists."""
    try:
        inputs = {role: read["key"] for role, read in card["inputs"].items()}
        return bool(key(card, inputs) == card["key"])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return False


def write(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card atomically."""
    fresh = folder / f".{CARD}.new"  # renamed into place, so that no half-written card exists
    fresh.write_text(_text(card), encoding="utf-8")
    fresh.replace(folder / CARD)


def _text(card: Mapping[str, Any]) -> str:
    return canonical(card, indent=1) + "\n"


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
    """Return the relative names of all files and links below a folder, sorted."""
    return sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, folders, files in os.walk(folder)
        for name in (*files, *(name for name in folders if Path(parent, name).is_symlink()))
    )


def damage(folder: Path, card: Mapping[str, Any], index: Index) -> str | None:
    """Return how the files of a cell differ from its card, or None if they agree."""
    if is_behind_link(folder):
        return "folder is behind a link"
    if not _is_as_written(folder, card):
        return f"{CARD} is not as a job writes it"
    for name, written in card["outputs"].items():
        path = folder / name
        if not _is_below(folder, name):
            return f"{name} is a link out of its cell"
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written["size"] or index.sha256(path) != written["sha256"]:
            return f"{name} is not what its card says"
    return None


def _is_as_written(folder: Path, card: Mapping[str, Any]) -> bool:
    """Return whether the text of a card has the layout of a job's, and no key twice."""
    try:
        return (folder / CARD).read_bytes() == _text(card).encode()
    except (ValueError, RecursionError):  # half a character, or values deep in each other
        return False


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
