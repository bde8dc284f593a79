"""Downloads an archive of CIFAR and reads its pictures. Nothing of it is run or written to disk."""

import hashlib
import pickle
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from clipmend.errors import DownloadError

_SECONDS = 60.0  # without a byte
_SIDE = 32
_DAMAGED = (
    *(tarfile.TarError, OSError, EOFError, zlib.error, pickle.UnpicklingError),
    *(LookupError, TypeError, ValueError, AttributeError),
)


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split of an archive, in its order.

    Attributes:
        pixels: 8-bit values, (pictures, height, width, 3).
        labels: the class of each.
        groups: the superclass of each, or its class where the archive has none.
    """

    pixels: NDArray[np.uint8]
    labels: Sequence[str]
    groups: Sequence[str]


def fetch_archive(url: str, md5: str, folder: Path) -> Path:
    """Return the archive in ``folder``, downloaded or from an earlier call.

    An interrupted download is continued by the next call.

    Raises:
        DownloadError: the address does not answer, or the bytes have another checksum.
        OSError: the disk is full.
    """
    path, partial = folder / "archive.tar.gz", folder / "archive.partial"
    if path.exists():
        return path
    try:
        if not partial.exists() or _md5(partial) != md5:  # a run may be killed before the renaming
            _continue(url, partial)
    except httpx.HTTPStatusError as error:
        response = error.response
        raise DownloadError(
            f"{url} cannot be downloaded: it answered {response.status_code} "
            f"({response.reason_phrase}). {_again(partial)}"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise DownloadError(f"{url} cannot be downloaded: {reason}. {_again(partial)}") from error
    if (found := _md5(partial)) != md5:
        size = partial.stat().st_size
        partial.unlink()
        raise DownloadError(
            f"{url} gave {size} bytes with the MD5 {found}, not {md5}: the file there is cut "
            "short, or another one. It was removed here; run again to download it anew, or check "
            "url and md5."
        )
    return partial.rename(path)


def _continue(url: str, partial: Path) -> None:
    """Download the bytes that ``partial`` lacks; all, if the server sends no part of a file."""
    size = partial.stat().st_size if partial.exists() else 0
    # Uncompressed: the bytes of a part could not be counted otherwise.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    stream = httpx.stream("GET", url, headers=headers, timeout=_SECONDS, follow_redirects=True)
    with stream as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing: the checksum decides
        answer.raise_for_status()
        is_part = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if is_part else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)


def _again(partial: Path) -> str:
    kept = f"{partial.stat().st_size} bytes of it are kept. " if partial.exists() else ""
    return f"{kept}Check the network, and run again to continue; url may name a mirror."


def _md5(file: Path) -> str:
    with file.open("rb") as data:
        # Not for security: the checksum is the one that the archive's home states.
        return hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_archive(
    path: Path, train: Sequence[str], test: Sequence[str], meta: str
) -> tuple[Mapping[str, Pictures], tuple[str, ...]]:
    """Return the pictures of ``train`` and ``test``, and the names of all classes.

    Args:
        train: the names of the files with training pictures; ``test`` likewise.
        meta: the name of the file with the names of the classes.

    Raises:
        DownloadError: the archive lacks a file, or a file is not as CIFAR has it.
    """
    wanted = {*train, *test, meta}
    found: dict[str, Any] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in wanted and (file := archive.extractfile(member)):
                    found[name] = _Arrays(BytesIO(file.read()), encoding="latin1").load()
        if missing := sorted(wanted - found.keys()):
            raise DownloadError(f"The archive lacks {', '.join(missing)}; it must be CIFAR's own.")
        names = found[meta]
        classes = tuple(map(_shown, names.get("label_names") or names["fine_label_names"]))
        groups = tuple(map(_shown, names.get("coarse_label_names") or classes))
        splits = {
            split: _pictures([found[name] for name in files], classes, groups)
            for split, files in (("train", train), ("test", test))
        }
    except _DAMAGED as error:
        raise DownloadError(
            f"The archive cannot be read as CIFAR's: {error or type(error).__name__}."
        ) from error
    return splits, classes


def _pictures(
    batches: Sequence[Mapping[str, Any]], classes: Sequence[str], groups: Sequence[str]
) -> Pictures:
    pixels = np.concatenate([batch["data"] for batch in batches])
    labels = [number for batch in batches for number in batch.get("labels") or batch["fine_labels"]]
    coarse = [number for batch in batches for number in batch.get("coarse_labels") or []]
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * _SIDE**2):
        raise ValueError(f"{len(labels)} labels and {pixels.shape} values of {pixels.dtype}")
    return Pictures(
        pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1),
        [classes[number] for number in labels],
        [groups[number] for number in coarse or labels],
    )


def _shown(name: str) -> str:
    """Return the name of a class as a caption has it."""
    return name.replace("_", " ")


class _Arrays(pickle.Unpickler):
    """Reads arrays, lists and texts; a file that names anything else is refused, and not run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the few functions that an array needs."""
        place = module.replace("numpy.core.", "numpy._core.")
        if (place, name) not in _NEEDED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which pictures do not need")
        own = _NEEDED[place, name]
        return super().find_class(place, name) if own is None else own


def _dtype(name: str, *_: object) -> np.dtype[Any]:
    # NumPy warns of the two numbers that Python 2 wrote behind the name.
    return np.dtype(name)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode(encoding)


_NEEDED: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): None,
    ("numpy._core.numeric", "_frombuffer"): None,
    ("_codecs", "encode"): _encode,
}
