"""An index of content hashes, so that the bytes of each file are read once."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from clipmend.engine import files
from clipmend.engine.folders import data_files

INDEX = Path(".clipmend/index.json")
UNREAD = "unread"
LIMIT = 500_000_000  # bytes of an index; a file takes about 150


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Index:
    """Maps the identity of a file to the SHA-256 of its bytes.

    The identity is device and inode; size, mtime and ctime tell whether the bytes may have changed.
    Only the main process saves the index, so that concurrent jobs can read it.
    """

    reads = True  # whether files that the index does not know are read

    def __init__(self, path: Path = INDEX) -> None:
        self.path = path
        self.entries: dict[str, list[int | str]] = {}
        # Without the index, or with one of another shape, files are only read again.
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            # Of a stranger's project, it may have any size, or be a pipe, which never ends.
            is_read = path.is_file() and path.stat().st_size <= LIMIT
            text = path.read_bytes() if is_read else "{}"
            read = json.loads(text).items()
            self.entries = {identity: entry for identity, entry in read if _is_entry(entry)}

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file, reading the file only if it may have changed."""
        identity, state = _identify(path)
        entry = self.entries.get(identity)
        if entry is not None and entry[:-1] == state:
            return str(entry[-1])
        digest = sha256(path)
        # Keyed by inode, so that hard links and renames of a file share one entry.
        self.entries[identity] = [*state, digest]
        return digest

    def tree(self, path: Path) -> str:
        """Return a digest of a file, or of the names and contents of the data files in a folder.

        Raises:
            PairsError: a link in the folder leads nowhere or back.
        """
        if not path.is_dir():
            return self.sha256(path)
        listing = {
            file.relative_to(path).as_posix(): self.sha256(file) for file in data_files(path)
        }
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def carry(self, path: Path, digest: str) -> None:
        """Record that a link, rename or new mtime of our own left the bytes of a file unchanged."""
        identity, state = _identify(path)
        self.entries[identity] = [*state, digest]

    def save(self) -> None:
        """Write the index for the next process."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        files.remove(fresh)
        fresh.write_text(json.dumps(self.entries, separators=(",", ":")), encoding="utf-8")
        files.replace(fresh, self.path)


class Glance(Index):
    """An index that reads small files only; a large or missing file has the digest ``unread``.

    A key with an ``unread`` part matches no finished cell, since such a cell has read all files.
    """

    reads = False
    limit = 1_000_000  # bytes

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file if it is known or small."""
        if not path.is_file():
            return UNREAD
        identity, state = _identify(path)
        entry = self.entries.get(identity)
        if entry is not None and entry[:-1] == state:
            return str(entry[-1])
        return super().sha256(path) if path.stat().st_size <= self.limit else UNREAD

    def tree(self, path: Path) -> str:
        """Return a digest of a file, or of a folder whose unknown files are small together."""
        if path.is_dir() and self._unknown_bytes(path) > self.limit:
            return UNREAD
        return super().tree(path) if path.exists() else UNREAD

    def _unknown_bytes(self, path: Path) -> int:
        """Return the bytes of unknown files below a folder, counted up to the limit."""
        count = 0
        for file in data_files(path):
            identity, state = _identify(file)
            entry = self.entries.get(identity)
            count += int(state[0]) if entry is None or entry[:-1] != state else 0
            if count > self.limit:
                break
        return count


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 4 and len(str(entry[-1])) == 64


def _identify(path: Path) -> tuple[str, list[int | str]]:
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}", [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
