"""Content hashes, taken once: an index of what a file looked like when its bytes were read."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

INDEX = Path(".clipmend/index.json")


class Index:
    """Maps a file's identity to the sha256 of its bytes.

    Identity is device and inode; size, mtime and ctime say whether the bytes may have changed.
    Only the main process saves it, so that jobs may read it while they run side by side.
    """

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


def _look(path: Path) -> tuple[str, list[int | str]]:
    stat = path.stat()
    return f"{stat.st_dev}:{stat.st_ino}", [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
