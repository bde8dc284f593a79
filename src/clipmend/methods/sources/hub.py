"""A mirror of a data set on a hub: the webdataset shards of one commit, with their checksums."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from clipmend.engine.folders import SHARD
from clipmend.errors import FULL, DownloadError, PairsError
from clipmend.methods.sources.user_files import splits_in

T = TypeVar("T")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NUMBER = re.compile(r"(.*?)(\d+)((?:-of-\d+)?\.tar)")
_LISTED = 3  # missing shards that an error names
_SECONDS = 30.0  # for the list of files
_FAILURES = (
    *(OSError, EntryNotFoundError, httpx2.HTTPError, httpx2.InvalidURL),
    *(ValueError, TypeError, LookupError),  # an answer that is not a hub's
    RecursionError,  # the library asks again, within itself, as long as it gets any bytes
)
_KEPT = "The shards so far are kept; run again to continue."


@dataclass(frozen=True)
class Shard:
    """A shard as the hub announces it.

    Attributes:
        path: its path in the repository.
        size: its bytes; None if the hub does not say.
        sha256: its checksum; None if the hub announces none.
    """

    path: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class Mirror:
    """A data set on a hub at one commit; ``HF_ENDPOINT`` names the hub."""

    repository: str
    revision: str

    @classmethod
    def pinned(cls, repository: str, revision: str | None) -> "Mirror":
        """Return the mirror at a commit.

        Raises:
            DownloadError: the revision is not a commit. The error says which commit it is now.
        """
        mirror = cls(repository, revision or "main")
        if _COMMIT.fullmatch(mirror.revision):
            return mirror
        info = mirror._asked(
            f"the revision {mirror.revision}",
            lambda: _api().dataset_info(repository, revision=mirror.revision, timeout=_SECONDS),
        )
        raise DownloadError(
            f"mirror_revision must be a commit of 40 digits, not {revision!r}: a branch moves, and "
            f"its pairs with it. {mirror.revision} of {repository} is {info.sha} now."
        )

    def shards(self, work: Path) -> dict[str, list[Shard]]:
        """Return the shards of each split by path. A file in ``work`` keeps the first answer.

        Raises:
            DownloadError: the hub does not answer, lacks a shard, or changed its answer.
        """
        info = self._asked(
            "the list of files",
            lambda: _api().dataset_info(
                self.repository, revision=self.revision, files_metadata=True, timeout=_SECONDS
            ),
        )
        if info.sha != self.revision:
            raise DownloadError(
                f"{self} answers with the commit {info.sha}, not with the one that was asked for."
            )
        shards = {
            file.rfilename: Shard(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None)
            for file in sorted(info.siblings or [], key=lambda file: file.rfilename)
            if file.rfilename.endswith(SHARD)
        }
        if not shards:
            raise DownloadError(f"{self} holds no *.tar shard; it must be a webdataset.")
        self._refuse_change(shards, work)
        # Splits may be folders, and only the names of files are looked at.
        flat = {Path(path.replace("/", "-")): shard for path, shard in shards.items()}
        try:
            named = splits_in(list(flat))
        except PairsError as error:
            raise DownloadError(f"{self} cannot be read: {error}") from error
        splits = {name: [flat[file] for file in files] for name, files in named.items()}
        for name, own in splits.items():
            self._refuse_gap(name, own)
        return splits

    def download(self, shard: Shard, folder: Path) -> tuple[Path, str]:
        """Download a shard into ``folder``, and return the file and its SHA-256.

        Raises:
            DownloadError: the hub does not answer, or the bytes are not those that it announced.
            OSError: the disk is full.
        """
        path = Path(
            self._asked(
                shard.path,
                lambda: hf_hub_download(
                    self.repository,
                    shard.path,
                    repo_type="dataset",
                    revision=self.revision,
                    local_dir=folder,
                    endpoint=_endpoint(),
                ),
            )
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        if shard.sha256 not in (None, digest) or shard.size not in (None, size):
            path.unlink()
            raise DownloadError(
                f"{shard.path} of {self} has {size} bytes with the SHA-256 {digest}; the hub "
                f"announces {shard.size} bytes with {shard.sha256}. The file was removed. {_KEPT}"
            )
        return path, digest

    def __str__(self) -> str:
        """Return repository, commit and hub."""
        hub = _endpoint() or constants.ENDPOINT
        return f"the mirror {self.repository} at {self.revision[:12]} on {hub}"

    def _asked(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except _FAILURES as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise DownloadError(
                f"{what} cannot be downloaded from {self}: {_reason(error)}"
            ) from error

    def _refuse_change(self, shards: dict[str, Shard], work: Path) -> None:
        listing = work / "mirror.json"
        now = {path: asdict(shard) for path, shard in shards.items()}
        if not listing.exists():
            partial = listing.with_suffix(".partial")
            partial.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
            partial.replace(listing)
        before = json.loads(listing.read_text(encoding="utf-8"))
        if changed := sorted(path for path in before | now if before.get(path) != now.get(path)):
            first = changed[0]
            raise DownloadError(
                f"{self} changed under way: {first} was {before.get(first)} and is "
                f"{now.get(first)} ({len(changed)} files differ). A commit never changes; remove "
                f"{work} to begin anew with what the mirror has now."
            )

    def _refuse_gap(self, split: str, shards: Sequence[Shard]) -> None:
        """Refuse shards whose numbers have a gap: pairs would be missing without a word."""
        series: dict[tuple[str, str], dict[int, int]] = {}
        for shard in shards:
            if match := _NUMBER.fullmatch(shard.path):
                head, digits, tail = match.groups()
                series.setdefault((head, tail), {})[int(digits)] = len(digits)
        missing = []
        for (head, tail), numbers in series.items():
            of = re.match(r"-of-(\d+)", tail)
            last = int(of[1]) - 1 if of else max(numbers)
            width = max(numbers.values())
            missing += [
                f"{head}{number:0{width}d}{tail}"
                for number in range(min(1, *numbers), last + 1)
                if number not in numbers
            ]
        if missing:
            more = f" and {len(missing) - _LISTED} others" * (len(missing) > _LISTED)
            raise DownloadError(
                f"{self} lacks shards of {split}: {', '.join(missing[:_LISTED])}{more}; its pairs "
                "would not be those of a complete mirror. Set mirror_revision to a commit that has "
                "all."
            )


def _endpoint() -> str | None:
    """Return the hub of the environment. The library reads it once, when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _api() -> HfApi:
    return HfApi(endpoint=_endpoint())


def _reason(error: Exception) -> str:
    """Return why a request failed and what to do, without the addresses and hints of the library.

    The library hides a failure behind the error that a file is not here either.
    """
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, RevisionNotFoundError):
        return "it has no such revision. Check mirror_revision."
    if isinstance(error, RepositoryNotFoundError):
        return "there is none, or none that may be read without HF_TOKEN. Check mirror."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"it has no such file. {_KEPT}"
    if (response := getattr(error, "response", None)) is not None:
        known = {status.value: f" ({status.phrase})" for status in HTTPStatus}
        return f"it answered {response.status_code}{known.get(response.status_code, '')}. {_KEPT}"
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{text.rstrip('.')}. {_KEPT}"
