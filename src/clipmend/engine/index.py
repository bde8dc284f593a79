"""Content hashes, taken once: an index of what a file looked like when its bytes were read."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

INDEX = Path(".clipmend/index.json")
UNREAD = "unread"


class Index:
    """Maps a file's identity to the sha256 of its bytes.

    Identity is device and inode; size, mtime and ctime say whether the bytes may have changed.
    Only the main process saves it, so that jobs may read it while they run side by side.
    """

    reads = True  # whether bytes that are not known yet are read

    def __init__(self, path: Path = INDEX) -> None:
        self.path = path
        self.entries: dict[str, list[int | str]] = {}
        with suppress(FileNotFoundError, ValueError):  # then files are read again, no more
            self.entries = json.loads(path.read_bytes())

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file's bytes, reading them only if they may have changed."""
        identity, look = _look(path)
        known = self.entries.get(identity)
        if known is not None and known[:-1] == look:
            return str(known[-1])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.entries[identity] = [*look, digest]
        return digest

    def tree(self, path: Path) -> str:
        """Return a digest of a file, or of a folder's names and contents."""
        if path.is_file():
            return self.sha256(path)
        files = sorted(
            Path(folder, name)
            for folder, _, names in os.walk(path, followlinks=True)
            for name in names
        )
        listing = {file.relative_to(path).as_posix(): self.sha256(file) for file in files}
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def carry(self, path: Path, digest: str) -> None:
        """Note that our own link, rename or new mtime changed how a file looks, not its bytes."""
        identity, look = _look(path)
        self.entries[identity] = [*look, digest]

    def save(self) -> None:
        """Write the index for the next process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.entries, separators=(",", ":")))
        fresh.replace(self.path)


class Glance(Index):
    """An index that reads small files only: a large one that it does not know is ``unread``.

    One that is missing is too. Keys made with it are right where all that they are made of is small
    or was read before; no other key can belong to a cell that is made already.
    """

    reads = False
    limit = 1_000_000  # bytes

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file's bytes, if it is known or small."""
        if not path.is_file():
            return UNREAD
        identity, look = _look(path)
        known = self.entries.get(identity)
        if known is not None and known[:-1] == look:
            return str(known[-1])
        return super().sha256(path) if path.stat().st_size <= self.limit else UNREAD

    def tree(self, path: Path) -> str:
        """Return a digest of a file, or of a folder whose files are known or small together."""
        if path.is_dir() and self._weight(path) > self.limit:
            return UNREAD
        return super().tree(path) if path.exists() else UNREAD

    def _weight(self, path: Path) -> int:
        """Return the bytes below a folder that are not known; beyond the limit not all."""
        weight = 0
        for folder, _, names in os.walk(path, followlinks=True):
            for name in names:
                identity, look = _look(Path(folder, name))
                known = self.entries.get(identity)
                weight += int(look[0]) if known is None or known[:-1] != look else 0
            if weight > self.limit:
                break
        return weight


def _look(path: Path) -> tuple[str, list[int | str]]:
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}", [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
