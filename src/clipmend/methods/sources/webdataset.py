"""Webdataset shards: tar files whose members of one stem are one sample."""

import tarfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp"})


@dataclass(frozen=True)
class Span:
    """Bytes of a file, left where they lie; ``size`` -1 is all from ``offset`` on."""

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
    """What a shard holds under one key.

    Attributes:
        key: folder and name of the members, up to the first point of the name.
        image: the encoded image; None where there is none.
        texts: what the members that were asked for say, by suffix, without white space around it.
    """

    key: str
    image: Span | None = None
    texts: dict[str, str] = field(default_factory=dict)


def read_samples(shard: Path, suffixes: Collection[str]) -> list[Sample]:
    """Return the samples of a shard, in the order of their first members; images are not read.

    What is neither an image nor asked for makes no sample, nor does a hidden file.

    Args:
        suffixes: of the members whose content is wanted, such as ``txt`` and ``cls``.

    Raises:
        tarfile.TarError, OSError: it is no plain tar file, a truncated one, one that has a member
            twice, or one that has names or texts that are no UTF-8.
    """
    samples: dict[str, Sample] = {}
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            folder, name = _named(member.name)
            stem, _, suffix = name.partition(".")
            suffix = suffix.lower()
            if not member.isfile() or not stem or suffix not in IMAGES | set(suffixes):
                continue
            key = f"{folder}/{stem}".lstrip("./")
            sample = samples.setdefault(key, Sample(key))
            is_image = suffix in IMAGES
            if sample.image is not None if is_image else suffix in sample.texts:
                raise tarfile.ReadError(f"it has {'an image' if is_image else name} of {key} twice")
            if is_image:
                sample.image = Span(shard, member.offset_data, member.size)
            elif content := archive.extractfile(member):
                sample.texts[suffix] = _text(member.name, content.read())
        _refuse_truncated(archive)
    return list(samples.values())


def _named(member: str) -> tuple[str, str]:
    """Return folder and name of a member."""
    try:
        member.encode()
    except UnicodeEncodeError as error:
        raise tarfile.ReadError(f"the name {member!a} is no UTF-8") from error
    folder, _, name = member.rpartition("/")
    return folder, name


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise tarfile.ReadError(f"{name} is no UTF-8 text") from error


def _refuse_truncated(archive: tarfile.TarFile) -> None:
    """Refuse what does not end as an archive does: a damaged header is taken for its end."""
    assert archive.fileobj is not None  # it was opened by its name
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is truncated, or damaged at byte {archive.offset}")
