"""Reads webdataset shards: tar files in which members with one stem are one sample."""

import tarfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp"})


@dataclass(frozen=True)
class Span:
    """Bytes in a file, not read yet; the size -1 means up to the end."""

    file: Path
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return the bytes."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Sample:
    """One sample of a shard.

    Attributes:
        key: folder and name of the members, up to the first point of the name.
        image: the encoded image; None without an image.
        texts: the content of text members by suffix, without white space at its ends.
    """

    key: str
    image: Span | None = None
    texts: dict[str, str] = field(default_factory=dict)


def read_samples(shard: Path, suffixes: Collection[str]) -> list[Sample]:
    """Return the samples of a shard, in the order of their first members; images are not read.

    Hidden files and members that are neither images nor named by ``suffixes`` are skipped.

    Args:
        suffixes: the text members to read, such as ``txt`` and ``cls``.

    Raises:
        tarfile.TarError, OSError: not an uncompressed tar file, a truncated one, a member
            that occurs twice, or a name or text that is not UTF-8.
    """
    samples: dict[str, Sample] = {}
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            if any("\udc80" <= letter <= "\udcff" for letter in member.name):  # undecoded bytes
                raise tarfile.ReadError(f"the name {member.name!a} is not UTF-8")
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            suffix = suffix.lower()
            is_image = suffix in IMAGE_SUFFIXES
            if not member.isfile() or not stem or not (is_image or suffix in suffixes):
                continue
            key = f"{folder}/{stem}".lstrip("./")
            sample = samples.setdefault(key, Sample(key))
            if sample.image is not None if is_image else suffix in sample.texts:
                raise tarfile.ReadError(f"it has {'an image' if is_image else name} of {key} twice")
            if is_image:
                sample.image = Span(shard, member.offset_data, member.size)
            elif content := archive.extractfile(member):
                try:
                    sample.texts[suffix] = content.read().decode().strip()
                except UnicodeDecodeError as error:
                    raise tarfile.ReadError(f"{member.name} is not UTF-8 text") from error
        _refuse_truncated(archive)
    return list(samples.values())


def _refuse_truncated(archive: tarfile.TarFile) -> None:
    # tarfile takes a damaged header for the end of the archive; a true end is a block of zeros.
    assert archive.fileobj is not None  # it was opened by its name
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is truncated, or damaged at byte {archive.offset}")
