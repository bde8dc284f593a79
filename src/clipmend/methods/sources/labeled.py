"""Labeled images for ``val`` and ``test``: folders named after classes, or webdataset shards."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from clipmend.data.pairs import table_of
from clipmend.data.sampling import seeded_order
from clipmend.errors import DownloadError, PairsError
from clipmend.methods.sources.web import WebError, refuse_no_image
from clipmend.methods.sources.webdataset import IMAGES, Span, read_samples

_BATCH = 1024  # images that are in memory together
_MANY = 20  # names that an error still lists


@dataclass(frozen=True)
class Names:
    """The class names, and what else the folders of the classes may be called.

    Attributes:
        classes: the names that the classifier distinguishes.
        by_number: the name of every class by its number in a data set; names may repeat.
        aliases: other names of folders, such as WordNet ids.
    """

    classes: tuple[str, ...]
    by_number: tuple[str, ...]
    aliases: Mapping[str, str]

    def find(self, told: str) -> str | None:
        """Return the class that a folder's name stands for, or None."""
        return told if told in self.classes else self.aliases.get(told)

    def allowed(self) -> str:
        """Return what folders may be called, in words."""
        if len(self.classes) <= _MANY:
            return f"classes: {', '.join(self.classes)}"
        ids = f" or a WordNet id ({min(self.aliases)} …)" if self.aliases else ""
        return f"allowed is one of {len(self.classes)} class names ({self.classes[0]} …){ids}"


@dataclass(frozen=True)
class Labeled:
    """An encoded image and its class; ``name`` is unique below the path that was given."""

    name: str
    label: str
    place: Span


def find_images(path: Path, names: Names) -> list[Labeled]:
    """Return the labeled images below a path, by name.

    Raises:
        DownloadError: there are none, or a class is unknown.
    """
    if not path.is_dir():
        raise DownloadError(
            f"{path} is no folder; labeled images are folders named after classes, or *.tar "
            "shards (an image beside its .cls) in one folder."
        )
    shards = sorted(path.glob("*.tar"))
    if shards:
        found = [image for shard in shards for image in _in_shard(shard, names)]
    else:
        found = list(_in_folders(path, names))
    if not found:
        raise DownloadError(f"{path} holds no image in folders named after classes.")
    return sorted(found, key=lambda image: image.name)


def seeded(images: Sequence[Labeled], seed: int) -> list[Labeled]:
    """Return the images in a seeded order, which depends on their names alone."""
    named = {image.name: image for image in images}
    return [named[name] for name in seeded_order(named, seed, "cc3m")]


def refuse_undecodable(images: Sequence[Labeled]) -> None:
    """Decode every image once.

    Raises:
        PairsError: one of them cannot be decoded; the error names its file.
    """
    for image in images:
        try:
            refuse_no_image(image.place.read())
        except WebError as error:
            raise PairsError(f"{image.place.file}, image {image.name!r}: {error}.") from error


def batches(split: str, images: Sequence[Labeled]) -> Iterator[pa.RecordBatch]:
    """Yield the images as pairs; the caption names the class."""
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        table = table_of(
            {
                "id": [f"{split}/{image.name}" for image in part],
                "image": [image.place.read() for image in part],
                "caption": [f"a photo of a {image.label}" for image in part],
                "label": [image.label for image in part],
            }
        )
        yield from table.combine_chunks().to_batches()


def _in_folders(path: Path, names: Names) -> Iterator[Labeled]:
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    labels = {folder: names.find(folder.name) for folder in folders}
    if unknown := [folder.name for folder, label in labels.items() if label is None]:
        more = f" and {len(unknown) - 1} others" * (len(unknown) > 1)
        raise DownloadError(
            f"{path}: the folder {unknown[0]!r}{more} is no class; {names.allowed()}."
        )
    for folder, label in labels.items():
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower().removeprefix(".") in IMAGES and file.is_file():
                yield Labeled(file.relative_to(path).as_posix(), label or "", Span(file))


def _in_shard(shard: Path, names: Names) -> Iterator[Labeled]:
    try:
        samples = read_samples(shard, ["cls"])
    except (tarfile.TarError, OSError) as error:
        raise DownloadError(f"{shard} cannot be read as a webdataset shard: {error}.") from error
    for sample in samples:
        if sample.image is None:
            continue
        told = sample.texts.get("cls")
        if told is None:
            raise DownloadError(f"{shard}: the image {sample.key!r} has no label beside it (.cls).")
        label = _label(shard, sample.key, told, names)
        yield Labeled(f"{shard.stem}/{sample.key}", label, sample.image)


def _label(shard: Path, key: str, told: str, names: Names) -> str:
    label = names.find(told)
    if label is None and told.isdecimal() and int(told) < len(names.by_number):
        return names.by_number[int(told)]
    if label is None:
        raise DownloadError(
            f"{shard}: {key}.cls says {told!r}, which is no class; {names.allowed()}."
        )
    return label
