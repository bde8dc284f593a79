"""The files of a user's folder that a source may read; they, and no others, are in its key."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from clipmend.errors import PairsError

TABLE, SHARD, LIST = ".parquet", ".tar", ".csv"
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin"})
_DOCUMENTS = frozenset(
    {".cfg", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log", ".md"}
    | {".pdf", ".py", ".pyc", ".rst", ".sh", ".toml", ".txt", ".xlsx", ".xml", ".yaml", ".yml"}
)
_WAYS = 100  # paths that may lead to one folder
_POINTER = b"version https://git-lfs.github.com/"
_PACKED = (".gz", ".bz2", ".xz", ".zst")


def is_junk(name: str) -> bool:
    """Return whether a file or folder is hidden, or left by a file manager or an editor."""
    is_hidden = name.startswith(".") and name != ".."  # the folder above, in a path
    return is_hidden or name.endswith("~") or name.lower() in _JUNK


def is_document(name: str) -> bool:
    """Return whether the suffix of a name is that of a text, which is never read as an image."""
    return Path(name).suffix.lower() in _DOCUMENTS


def is_pointer(path: Path) -> bool:
    """Return whether a file stands for one that Git LFS has not downloaded."""
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def visible(folder: Path) -> list[Path]:
    """Return the files and folders in a folder by name, without junk."""
    return sorted(path for path in folder.iterdir() if not is_junk(path.name))


def pair_files(folder: Path) -> dict[str, list[Path]]:
    """Return the parquet files, shards and CSV files in a folder, by suffix.

    Raises:
        PairsError: a link in the folder leads nowhere, a file is compressed, or a folder has the
            name of a file.
    """
    files: dict[str, list[Path]] = {TABLE: [], SHARD: [], LIST: []}
    for path in visible(folder):
        suffix = path.suffix.lower()
        is_packed = suffix == ".tgz" or (
            suffix in _PACKED and path.stem.lower().endswith((*files,))
        )
        if is_packed and path.is_file():
            raise PairsError(f"{path} is compressed and cannot be read; unpack it first.")
        if suffix in files and path.is_dir():  # as Spark writes them
            raise PairsError(
                f"{path} is a folder, whose files would not be read; name it alone, or move them "
                f"into {folder}."
            )
        if suffix in files:
            files[suffix].append(_regular(path))
    # img2dataset puts a parquet file of metadata beside each of its shards.
    if {file.stem for file in files[TABLE]} <= {file.stem for file in files[SHARD]}:
        files[TABLE] = []
    return files


def data_files(folder: Path) -> list[Path]:
    """Return the files in a folder that a source may read, in the order of their paths.

    Parquet files and shards are read from the folder itself. A CSV file, and folders named after
    classes, have their images anywhere below.

    Raises:
        PairsError: a link leads nowhere or back, links multiply the paths, or a pipe or a socket
            is among the files.
    """
    files = pair_files(folder)
    if not files[LIST] and (files[TABLE] or files[SHARD]):
        return sorted(files[TABLE] + files[SHARD])
    return sorted(files_below(folder))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are neither junk nor documents.

    Raises:
        PairsError: as ``data_files``.
    """
    return _below(folder, (folder.resolve(),), Counter())


def _below(folder: Path, parents: tuple[Path, ...], ways: Counter[Path]) -> Iterator[Path]:
    for path in visible(folder):
        if path.is_dir():
            place = path.resolve()
            if place in parents:
                raise PairsError(f"{path} is a link to a folder that holds it; remove the link.")
            ways[place] += 1
            if ways[place] > _WAYS:  # links in each of n folders can make 2^n paths
                raise PairsError(f"More than {_WAYS} paths lead by links to {path}; remove links.")
            yield from _below(path, (*parents, place), ways)
        elif not is_document(path.name):
            yield _regular(path)


def _regular(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_symlink() and not path.exists():
        raise PairsError(
            f"{path} is a link to {path.readlink()}, which does not exist; "
            "remove the link or bring the file back."
        )
    raise PairsError(f"{path} is not a file with content, but a pipe, a socket or a device.")
