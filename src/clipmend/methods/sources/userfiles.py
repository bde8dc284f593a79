"""Files of the user's own (parquet, webdataset, CSV beside images), read as checked pairs."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa

from clipmend.data.pairs import SPLITS
from clipmend.errors import PairsError
from clipmend.methods.sources.userrows import Columns, Damage, Rows, read_rows

FORMATS = (".parquet", ".tar", ".csv")


def files_in(path: Path) -> list[Path]:
    """Return the files of pairs that ``path`` is or holds, by name.

    A CSV file is read through its folder, which holds the images too, so that their
    bytes are part of the key.

    Raises:
        PairsError: there is nothing to read, or two formats.
    """
    if path.suffix in FORMATS[:2] and path.is_file():
        return [path]
    if not path.is_dir():
        why = "is no folder, .parquet or .tar file" if path.exists() else "does not exist"
        raise PairsError(
            f"{path} cannot be read as pairs: it {why}; allowed are a parquet file, a webdataset "
            "shard, a folder of either, and a folder that holds a CSV file and its images."
        )
    found = {suffix: sorted(path.glob(f"*{suffix}")) for suffix in FORMATS}
    if {file.stem for file in found[".parquet"]} <= {file.stem for file in found[".tar"]}:
        found[".parquet"] = []  # what img2dataset tells of its shards, beside them
    held = [suffix for suffix, files in found.items() if files]
    if not held:
        raise PairsError(f"{path} holds no pairs: no *.parquet, *.tar or *.csv file is in it.")
    if len(held) > 1:
        raise PairsError(
            f"{path} holds pairs in several forms, *{' and *'.join(held)}; put those that are "
            "meant into a folder of their own."
        )
    return found[held[0]]


def splits_in(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by the split that they are named after; none are: all are ``train``.

    ``test.parquet`` and ``test-00000-of-00002.parquet`` are both named after ``test``.

    Raises:
        PairsError: some files are named after a split and others are not.
    """
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(file.stem.partition("-")[0], []).append(file)
    if not set(SPLITS) & set(named):
        return {"train": list(files)}
    if strange := [file.name for name in sorted(set(named) - set(SPLITS)) for file in named[name]]:
        raise PairsError(
            f"{files[0].parent} holds both splits and files that are none ({', '.join(strange)}); "
            f"splits are named {', '.join(SPLITS)}."
        )
    return named


@dataclass(frozen=True)
class Files:
    """The files of a split, read in their order, a block of rows at a time.

    Labels are class names, or (not in CSV) integers that index ``classes``; a file without the
    label column has unknown labels.

    Attributes:
        name: of the split; rows that have no ids are numbered after it.
    """

    name: str
    paths: Sequence[Path]
    columns: Columns
    classes: Sequence[str]

    def checked(self) -> Iterator[pa.Table]:
        """Yield all rows in the schema ``PAIRS``, images as they came; each is decoded once.

        Raises:
            PairsError: a column is missing, a caption or id is null, a label is no class, or
                an image cannot be decoded; the error names the row.
        """
        for blocks in self._files():
            damage = Damage()
            for rows in blocks:
                table = rows.table(self.classes)
                damage.look_at(rows, table["image"].to_pylist())
                if not damage.count:
                    yield table
            damage.refuse()

    def read(self, wanted: Container[str]) -> Iterator[pa.Table]:
        """Yield the rows with the wanted ids as ``checked`` does, without another look."""
        for blocks in self._files():
            for rows in blocks:
                yield rows.only(wanted).table(self.classes)

    def __str__(self) -> str:
        """Return where they are."""
        first, last = self.paths[0], self.paths[-1]
        return str(first) if len(self.paths) == 1 else f"{first} … {last.name}"

    def _files(self) -> Iterator[Iterator[Rows]]:
        numbers = (f"{self.name}-{row:06d}" for row in count())
        return (read_rows(path, self.columns, numbers) for path in self.paths)


def refuse_repeated_ids(parts: Sequence[tuple[Files, Sequence[str]]]) -> None:
    """Refuse ids that stand twice in a split, or in two of them.

    Raises:
        PairsError: an id stands twice.
    """
    seen: dict[str, tuple[int, Files]] = {}
    for files, ids in parts:
        for row, row_id in enumerate(ids):
            if row_id in seen:
                first, where = seen[row_id]
                raise PairsError(
                    f"The id {row_id!r} stands twice: in row {first} of {where} and row {row} of "
                    f"{files}; ids must be unique (id_column: null numbers the rows instead)."
                )
            seen[row_id] = (row, files)
