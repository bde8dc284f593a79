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
        texts: the members that were asked for, by suffix.
    """

    key: str
    image: Span | None = None
    texts: dict[str, bytes] = field(default_factory=dict)

    def text(self, suffix: str) -> str | None:
        """Return what a member says, without white space around it; None where there is none."""
        content = self.texts.get(suffix)
        return None if content is None else content.decode("utf-8", "replace").strip()


def read_samples(shard: Path, suffixes: Collection[str]) -> list[Sample]:
    """Return the samples of a shard, in the order of their first members; images are not read.

    Args:
        suffixes: of the members whose content is wanted, such as ``txt`` and ``cls``.

    Raises:
        tarfile.TarError, OSError: it is no plain tar file, or a truncated one.
    """
    samples: dict[str, Sample] = {}
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            if not member.isfile():
                continue
            key, suffix = _named(member.name)
            sample = samples.setdefault(key, Sample(key))
            if suffix.lower() in IMAGES:
                sample.image = Span(shard, member.offset_data, member.size)
            elif suffix in suffixes and (content := archive.extractfile(member)):
                sample.texts[suffix] = content.read()
    return list(samples.values())


def _named(member: str) -> tuple[str, str]:
    folder, _, name = member.rpartition("/")
    stem, _, suffix = name.partition(".")
    return f"{folder}/{stem}".lstrip("./"), suffix
