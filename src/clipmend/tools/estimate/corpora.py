"""How many pairs a corpus will have, how many bytes they take, and what fetching them takes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipmend.engine.cell import RESULTS, Cell
from clipmend.tools.estimate.costs import Figure, Source
from clipmend.tools.estimate.passes import Sizes

# Of drawn scenes at 32 px: the mean of 300 PNGs, and images drawn a second by one core (2026-11).
SCENE_BYTES, SCENES_PER_SECOND, SCENE_SIZE = 2332, 1500, 32
SPLITS = ("train", "trusted", "val", "test")
IMAGENET_VAL, IMAGENET_BYTES = 50_000, 130_000  # images, and the mean bytes of their JPEGs
STORED_BYTES, STORED_SIZE = 40_000, 256
FETCHED_BYTES = (90_000, 294_000)
CORES, FETCHED_PER_SECOND = 16, 850
ORIGINS = {
    "scenes": "2,332 bytes an image and 1,500 images/s a core, measured at 32 px, 2026-11",
    "stored": "40 kB an image reduced to 256 px as JPEG of quality 95: assumed; while it is made, "
    "the fetched shards take as much again",
    "imagenet": "50,000 labeled images of 130 kB, those of ImageNet's validation set: assumed",
    "fetched": "rows asked for x 90 to 294 kB. At least: the images of 3,016,640 rows, none larger "
    "than 1,024 px, take 271 GB (dataset card WeiChow/cc3m). At most: img2dataset's 850 images/s "
    "over 2 Gb/s (its dataset_examples/cc3m.md). Dead links take less",
    "fetching": "img2dataset on 16 cores asks for 850 images/s (its dataset_examples/cc3m.md)",
}


@dataclass(frozen=True)
class Corpus:
    """What is known of a corpus before it is made, or after.

    Attributes:
        sizes: pairs of its splits; None where only its files can tell.
        image_size: side of the images that models see, in pixels.
        size: bytes of its files; None where nobody knows.
        seconds: of the job that makes it, on one core, or its 16 where pairs are fetched; None
            where nobody knows.
        fetched: least and most bytes that come over the network.
        origins: keys of ``ORIGINS`` that these rest on.
    """

    sizes: Sizes | None
    image_size: int
    size: Figure | None
    seconds: Figure | None = None
    fetched: tuple[int, int] = (0, 0)
    origins: tuple[str, ...] = ()


def corpus_of(cell: Cell, *, is_made: bool) -> Corpus:
    """Return what is known of the corpus that a cell of ``download`` makes."""
    settings = cell.settings
    if cell.method == "scenes":
        found = _scenes(cell)
    elif cell.method == "cc3m":
        found = _cc3m(cell)
    else:
        found = Corpus(_carved(settings), int(settings.get("image_size", 32)), _given(cell))
    counted = _counted(RESULTS / cell.name) if is_made else None
    return found if counted is None else replace(found, sizes=counted)


def _scenes(cell: Cell) -> Corpus:
    sizes = _stated(cell.settings)
    side = int(cell.settings["image_size"])
    if sizes is None:
        return Corpus(None, side, None)
    pixels = (side / SCENE_SIZE) ** 2
    source: Source = "measured" if side == SCENE_SIZE else "extrapolated"
    drawn = Figure(sizes.pairs * pixels / SCENES_PER_SECOND, "extrapolated")
    size = Figure(sizes.pairs * SCENE_BYTES * pixels, source)
    return Corpus(sizes, side, size, drawn, origins=("scenes",))


def _cc3m(cell: Cell) -> Corpus:
    settings = cell.settings
    train, trusted = int(settings["train"]), int(settings["trusted"])
    carved = int(settings["val"])
    test = settings.get("test")
    sizes = Sizes(train, trusted, carved, IMAGENET_VAL - carved if test is None else int(test))
    rows, labeled = train + trusted, sizes.val + sizes.test
    side = settings.get("stored_size")
    each = FETCHED_BYTES[1] if side is None else STORED_BYTES * (int(side) / STORED_SIZE) ** 2
    return Corpus(
        sizes,
        int(settings["image_size"]),
        Figure(float(rows * each + labeled * IMAGENET_BYTES), "assumed"),
        Figure(CORES * rows / FETCHED_PER_SECOND, "assumed"),
        (rows * FETCHED_BYTES[0], rows * FETCHED_BYTES[1]),
        ("fetched", "stored", "imagenet", "fetching"),
    )


def _stated(settings: Mapping[str, object]) -> Sizes | None:
    """Return the sizes that the settings name; None where one is left to the files."""
    counts = [settings.get(name) for name in SPLITS]
    if not all(isinstance(count, int) for count in counts):
        return None
    return Sizes(*(int(str(count)) for count in counts))


def _counted(folder: Path) -> Sizes | None:
    """Return the rows of the splits in a folder; None where they do not lie there as files."""
    paths = [folder / f"{name}.parquet" for name in SPLITS]
    if not all(path.is_file() for path in paths):
        return None
    return Sizes(*(pq.read_metadata(path).num_rows for path in paths))


def _carved(settings: Mapping[str, Any]) -> Sizes | None:
    """Return the sizes of a corpus of the user's own; None where the files do not say.

    Splits that are not given are carved from the others' pool, ``train`` is what it leaves.
    """
    pool = _rows(settings.get("path"))
    given = {name: _rows(settings.get(f"{name}_path")) for name in SPLITS}
    sizes = {name: given[name] or int(settings[name]) for name in SPLITS[1:]}
    carved = sum(size for name, size in sizes.items() if given[name] is None)
    whole = given["train"] or pool
    if whole is None:
        return None
    train = max(0, whole - carved)
    return Sizes(min(train, settings.get("train") or train), **sizes)


def _rows(path: str | None) -> int | None:
    """Return the rows of a parquet file, or of all in a folder; None where there is none."""
    if path is None:
        return None
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.parquet"))
    files = [file for file in files if file.suffix == ".parquet"]
    return sum(pq.read_metadata(file).num_rows for file in files) if files else None


def _given(cell: Cell) -> Figure | None:
    """Return the bytes of the user's own files: the corpus will have about as many."""
    total = 0
    for name in cell.files:
        path = Path(name)
        if path.is_file():
            total += path.stat().st_size
        for folder, _, names in os.walk(path):
            total += sum(Path(folder, one).stat().st_size for one in names)
    return Figure(float(total), "extrapolated") if total else None
