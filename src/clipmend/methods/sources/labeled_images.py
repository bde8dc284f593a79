"""Labeled images for ``val`` and ``test``: folders named after classes, or webdataset shards."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from clipmend.data.pairs import PAIRS
from clipmend.data.sampling import seeded_order
from clipmend.engine.folders import SHARD, files_below, pair_files, visible
from clipmend.errors import DownloadError
from clipmend.methods.sources.bad_rows import BadRow, BadRows
from clipmend.methods.sources.image_bytes import NoImageError, stored_bytes
from clipmend.methods.sources.user_files import files_of_split
from clipmend.methods.sources.webdataset import IMAGE_SUFFIXES, Span, read_samples

_BATCH = 1024  # images that are in memory together
_LISTED = 20  # class names that an error lists


@dataclass(frozen=True)
class Names:
    """The class names, and the other names that a folder of a class may have.

    Attributes:
        classes: the names that the zero-shot classifier distinguishes.
        by_number: the name of every class by its number in a data set; names may repeat.
        aliases: class names by other names of folders, such as WordNet ids.
    """

    classes: tuple[str, ...]
    by_number: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def find(self, folder: str) -> str | None:
        """Return the class that a folder's name or a label stands for, or None."""
        return folder if folder in self.classes else self.aliases.get(folder)

    def allowed(self) -> str:
        """Return the allowed names of folders, for an error."""
        if len(self.classes) <= _LISTED:
            return f"classes: {', '.join(self.classes)}"
        ids = f" or a WordNet id ({min(self.aliases)} …)" if self.aliases else ""
        return f"allowed is one of {len(self.classes)} class names ({self.classes[0]} …){ids}"


def imagenet_names() -> Names:
    """Return the 1,000 classes of ImageNet under open_clip's names; 998 names differ.

    Two names occur twice in open_clip's list (``missile``, ``sunglasses``). A classifier cannot
    distinguish two classes with one name: each such pair is one class here.
    """
    # Imported here: it takes seconds, which other class names need not cost.
    from clipmend.model.openclip import open_clip
    from timm.data.imagenet_info import ImageNetInfo  # isort: skip  (fails before open_clip)

    by_number = tuple(open_clip.IMAGENET_CLASSNAMES)
    aliases = dict(zip(ImageNetInfo().label_names(), by_number, strict=True))
    return Names(tuple(dict.fromkeys(by_number)), by_number, aliases)


def imagenet_prompts() -> tuple[str, ...]:
    """Return the 80 prompt templates of CLIP (Radford et al. 2021, arXiv:2103.00020)."""
    from clipmend.model.openclip import open_clip

    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


@dataclass(frozen=True)
class Labeled:
    """An encoded image and its class; ``name`` is unique below the path of the images."""

    name: str
    label: str
    span: Span


def find_images(path: Path, names: Names, split: str) -> list[Labeled]:
    """Return the labeled images of a split below a path, by name.

    Raises:
        DownloadError: the path has no images, or a class is unknown.
    """
    if not path.is_dir():
        raise DownloadError(
            f"{path} is not a folder; labeled images are folders named after classes, or *.tar "
            "shards (an image beside its .cls) in one folder."
        )
    if shards := pair_files(path)[SHARD]:
        own = files_of_split(split, shards)
        images = [image for shard in own for image in _in_shard(shard, names)]
    else:
        images = list(_in_folders(path, names))
    if not images:
        raise DownloadError(f"{path} holds no image in folders named after classes.")
    return sorted(images, key=lambda image: image.name)


def seeded(images: Sequence[Labeled], seed: int) -> list[Labeled]:
    """Return the images in a seeded order, which depends on their names alone."""
    by_name = {image.name: image for image in images}
    return [by_name[name] for name in seeded_order(by_name, seed, "cc3m")]


def usable(images: Sequence[Labeled], checked: Path, bad: BadRows) -> list[Labeled]:
    """Return the images that can be decoded; the others are added to ``bad``.

    Args:
        checked: a file that keeps the result for the next call.
    """
    if not checked.exists():
        reasons = {}
        for image in images:
            try:
                stored_bytes(image.span.read(), None)
            except NoImageError as error:
                reasons[image.name] = str(error)
        checked.write_text(json.dumps(reasons), encoding="utf-8")
    reasons = json.loads(checked.read_text(encoding="utf-8"))
    bad.total += len(images)
    for number, image in enumerate(images):
        if image.name in reasons:
            row_id = f"{checked.stem}/{image.name}"
            bad.add(BadRow(str(image.span.file), number, row_id, reasons[image.name]))
    return [image for image in images if image.name not in reasons]


def batches(split: str, images: Sequence[Labeled]) -> Iterator[pa.RecordBatch]:
    """Yield the images as pairs; the caption names the class."""
    for start in range(0, len(images), _BATCH):
        rows = [
            {
                "id": f"{split}/{image.name}",
                "image": image.span.read(),
                "caption": f"a photo of a {image.label}",
                "label": image.label,
            }
            for image in images[start : start + _BATCH]
        ]
        yield from pa.Table.from_pylist(rows, PAIRS).to_batches()  # may exceed 2 GiB


def _in_folders(path: Path, names: Names) -> Iterator[Labeled]:
    folders = [folder for folder in visible(path) if folder.is_dir()]
    labels = {folder: names.find(folder.name) for folder in folders}
    if unknown := [folder.name for folder, label in labels.items() if label is None]:
        more = f" and {len(unknown) - 1} others" * (len(unknown) > 1)
        raise DownloadError(
            f"{path}: the folder {unknown[0]!r}{more} is not a class; {names.allowed()}."
        )
    for folder, label in labels.items():
        for file in sorted(files_below(folder)):
            if file.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES:
                yield Labeled(file.relative_to(path).as_posix(), label or "", Span(file))


def _in_shard(shard: Path, names: Names) -> Iterator[Labeled]:
    try:
        samples = read_samples(shard, ["cls"])
    except (tarfile.TarError, OSError) as error:
        raise DownloadError(f"{shard} cannot be read as a webdataset shard: {error}.") from error
    for sample in samples:
        if sample.image is None or "cls" not in sample.texts:
            lacks = "image" if sample.image is None else "label (.cls)"
            raise DownloadError(f"{shard}: the sample {sample.key!r} has no {lacks}.")
        text = sample.texts["cls"].decode(errors="backslashreplace").strip()
        label = names.find(text)
        # Names come first: a class may be called "7".
        if label is None and text.isdecimal() and int(text) < len(names.by_number):
            label = names.by_number[int(text)]
        if label is None:
            raise DownloadError(
                f"{shard}: {sample.key}.cls says {text!r}, which is not a class; {names.allowed()}."
            )
        yield Labeled(f"{shard.stem}/{sample.key}", label, sample.image)
