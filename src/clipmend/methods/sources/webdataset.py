"""Reads webdataset shards: tar files in which members with one stem are one sample."""

import tarfile
from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import dataclass, field
from os import SEEK_CUR
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from clipmend.engine.folders import is_junk

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"})
_CHUNK = 2048 * tarfile.BLOCKSIZE


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
        key: folder and name of the members, without the suffix.
        image: the encoded image; None without an image.
        texts: the content of text members by suffix.
    """

    key: str
    image: Span | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Member:
    """An image or a text of a shard; ``stem`` has the points of the name but the last one."""

    folder: str
    stem: str
    suffix: str
    content: Span | bytes

    def key(self, stem: str) -> str:
        return f"{self.folder}/{stem}".lstrip("./")


def read_samples(shard: Path, suffixes: Collection[str]) -> list[Sample]:
    """Return the samples of a shard, in the order of their first members; images are not read.

    Hidden files and members that are neither images nor named by ``suffixes`` are skipped. The key
    of ``x.input.jpg`` is ``x.input`` if a text has it, and else ``x``, as webdataset reads it.

    Args:
        suffixes: the text members to read, such as ``txt`` and ``cls``.

    Raises:
        tarfile.TarError, OSError: not an uncompressed tar file, a truncated one, or a member
            that occurs twice, such as a second image of a sample.
    """
    try:
        members = list(_members(shard, suffixes))
    except (ValueError, OverflowError) as error:  # numbers of a damaged header
        raise tarfile.ReadError(f"it is damaged: {error}") from error
    own = {m.key(m.stem) for m in members if isinstance(m.content, bytes)}
    samples: dict[str, Sample] = {}
    for member in members:
        key = member.key(member.stem)
        if key not in own:
            key = member.key(member.stem.partition(".")[0])
        sample = samples.setdefault(key, Sample(key))
        if isinstance(member.content, bytes):
            if member.suffix in sample.texts:
                name = f"{member.stem}.{member.suffix}"
                raise tarfile.ReadError(f"it has {name} of {key} twice")
            sample.texts[member.suffix] = member.content
        elif sample.image is not None:
            raise tarfile.ReadError(f"it has an image of {key} twice")
        else:
            sample.image = member.content
    return list(samples.values())


def _members(shard: Path, suffixes: Collection[str]) -> Iterator[_Member]:
    with shard.open("rb") as file:
        while True:
            yield from _members_of_archive(shard, file, suffixes)
            # `cat` joins shards; tar itself would stop at the end of the first.
            if not _skip_zeros(file):
                return


def _members_of_archive(
    shard: Path, file: BinaryIO, suffixes: Collection[str]
) -> Iterator[_Member]:
    """Yield the members of the archive that begins here; the file is at its end then."""
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
        targets: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            if member.islnk() and member.linkname in targets:  # tar stores a file once
                link, member = member, copy(targets[member.linkname])
                member.name = link.name
            targets[member.name] = member
            path = PurePosixPath(member.name)
            stem, _, suffix = path.name.rpartition(".")
            suffix = suffix.lower()
            if not member.isfile() or not stem or any(map(is_junk, path.parts)):
                continue
            folder = member.name.rpartition("/")[0]
            if suffix in IMAGE_SUFFIXES:
                span = Span(shard, member.offset_data, member.size)
                yield _Member(folder, stem, suffix, span)
            elif suffix in suffixes and (content := archive.extractfile(member)):
                yield _Member(folder, stem, suffix, content.read())
        # tarfile takes a damaged header for the end of the archive; a true end is zeros.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it is truncated, or damaged at byte {archive.offset}")


def _skip_zeros(file: BinaryIO) -> bool:
    """Go to the next block that is not zero; return whether there is one."""
    while chunk := file.read(_CHUNK):
        if rest := chunk.lstrip(b"\0"):
            ahead = len(rest) + (len(chunk) - len(rest)) % tarfile.BLOCKSIZE
            file.seek(-ahead, SEEK_CUR)
            return True
    return False
