"""Reads the user's own files (parquet, webdataset, CSV beside images) as checked pairs.

Files are read a block of rows at a time, so that a set of pairs may be larger than memory. An error
names the file, the row and its id.
"""

import tarfile
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from clipmend.data.images import decode
from clipmend.data.pairs import PAIRS, SPLITS
from clipmend.data.row_groups import GROUP
from clipmend.errors import PairsError
from clipmend.methods.sources.webdataset import Span, read_samples

FORMATS = (".parquet", ".tar", ".csv")
# Bytes that are read at once. Without a limit it is a row group, which may be a complete file.
_BUFFER = 1 << 16


def files_in(path: Path) -> list[Path]:
    """Return the files of pairs that ``path`` is or holds, by name.

    A CSV file is read through its folder, which also holds the images, so that their bytes are
    part of the key.

    Raises:
        PairsError: the folder has no such files, or files of two formats.
    """
    if path.suffix in FORMATS[:2] and path.is_file():
        return [path]
    if not path.is_dir():
        why = "is not a folder, .parquet or .tar file" if path.exists() else "does not exist"
        raise PairsError(
            f"{path} cannot be read as pairs: it {why}; allowed are a parquet file, a webdataset "
            "shard, a folder of either, and a folder that holds a CSV file and its images."
        )
    files = {suffix: sorted(path.glob(f"*{suffix}")) for suffix in FORMATS}
    # img2dataset puts a parquet file of metadata beside each of its shards.
    if {file.stem for file in files[".parquet"]} <= {file.stem for file in files[".tar"]}:
        files[".parquet"] = []
    formats = [suffix for suffix in FORMATS if files[suffix]]
    if not formats:
        raise PairsError(f"{path} holds no pairs: no *.parquet, *.tar or *.csv file is in it.")
    if len(formats) > 1:
        raise PairsError(
            f"{path} holds pairs in several formats, *{' and *'.join(formats)}; move the files to "
            "read into a folder of their own."
        )
    return files[formats[0]]


def splits_in(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by the split in their names; without such names all are ``train``.

    ``test.parquet`` and ``test-00000-of-00002.parquet`` both belong to ``test``.

    Raises:
        PairsError: some files are named after a split and others are not.
    """
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(file.stem.partition("-")[0], []).append(file)
    if not set(SPLITS) & set(named):
        return {"train": list(files)}
    if others := [file.name for name in sorted(set(named) - set(SPLITS)) for file in named[name]]:
        raise PairsError(
            f"{files[0].parent} holds files named after splits and other files "
            f"({', '.join(others)}); the splits are {', '.join(SPLITS)}."
        )
    return named


@dataclass(frozen=True)
class Columns:
    """The names of the columns in the user's files.

    Attributes:
        id: None numbers the rows.
        image: encoded bytes, a struct with a field ``bytes``, or (in CSV) a file name.
        caption: text.
        label: None reads no labels; a file may also lack the column.
    """

    id: str | None
    image: str
    caption: str
    label: str | None


@dataclass(frozen=True)
class _Row:
    """A row as its file has it."""

    file: Path
    number: int
    id: str
    image: Any
    caption: Any
    label: Any

    def error(self, reason: object) -> PairsError:
        return PairsError(f"{self.file}, row {self.number} (id {self.id!r}): {reason}")

    def pair(self, label_of: Mapping[object, str | None]) -> dict[str, Any]:
        """Return the columns of ``PAIRS``, with the image's own bytes.

        Raises:
            PairsError: the caption or the image is missing, or the label is not a class.
        """
        image = self.image
        if isinstance(image, dict) and "bytes" in image:
            image = image["bytes"]
        elif isinstance(image, str) and self.file.suffix == ".csv":
            image = self._file_bytes(image)
        elif isinstance(image, Span):
            image = image.read()
        if not isinstance(image, bytes):
            raise self.error(
                f"the image is {'null' if image is None else 'no bytes'}; allowed are encoded "
                "bytes, a struct with a field 'bytes', and (in a CSV file) file names."
            )
        if self.caption is None or self.caption == "":
            raise self.error("the caption is empty; every pair needs one.")
        if not isinstance(self.caption, str):
            raise self.error(f"the caption is {type(self.caption).__name__}; it must be text.")
        if self.label not in label_of:
            classes = ", ".join(dict.fromkeys(filter(None, label_of.values())))
            raise self.error(f"the label {self.label!r} is not a class; classes: {classes}.")
        label = label_of[self.label]
        return {"id": self.id, "image": image, "caption": self.caption, "label": label}

    def _file_bytes(self, name: str) -> bytes:
        folder, path = self.file.parent, PurePath(name)
        # The key has the bytes of the folder: an image outside could change unnoticed.
        if path.is_absolute() or ".." in path.parts:
            raise self.error(
                f"the image {name!r} is not inside {folder}; move it there, because a change of "
                "the folder is what makes the corpus again."
            )
        try:
            return (folder / path).read_bytes()
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise self.error(f"no image {folder / path} ({reason}).") from error


@dataclass(frozen=True)
class Files:
    """The files of one split, in their order.

    A label is a class name, or (not in CSV) an integer that indexes ``classes``. The label of a
    file without the label column is null. A shard has no column names: its keys are ids, ``.txt``
    members are captions, and ``.cls`` members are labels. Rows without ids are numbered after
    ``name``, the split.
    """

    name: str
    paths: Sequence[Path]
    columns: Columns
    classes: Sequence[str]

    def checked(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows in the schema ``PAIRS`` with the images' own bytes; decode each image.

        Raises:
            PairsError: a file cannot be read, has no row or lacks a column. Or a caption or id is
                null, a label is not a class, or an image cannot be decoded; it names the row.
        """
        for blocks in self._blocks_of_files():
            errors: list[PairsError] = []
            images = 0
            for rows in blocks:
                pairs = self._pairs(rows)
                images += len(rows)
                for row, image in zip(rows, pairs["image"], strict=True):
                    try:
                        decode(image.as_py(), 1)
                    except PairsError as damage:
                        errors.append(row.error(damage))
                if not errors:
                    yield from pairs.to_batches()
            # Raised after the last row, so that the user learns at once how many are damaged.
            if errors:
                more = f" ({len(errors)} of {images} images are like this)" * (len(errors) > 1)
                raise PairsError(f"{errors[0]}{more}")

    def read(self, ids: Container[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows with these ids as ``checked`` does, without decoding."""
        for blocks in self._blocks_of_files():
            for rows in blocks:
                # Filtered first: images of other splits in a shard or in files are not read.
                yield from self._pairs([row for row in rows if row.id in ids]).to_batches()

    def __str__(self) -> str:
        """Return the path, or the first path and the last name."""
        first, last = self.paths[0], self.paths[-1]
        return str(first) if len(self.paths) == 1 else f"{first} … {last.name}"

    def _pairs(self, rows: Sequence[_Row]) -> pa.Table:
        label_of: dict[object, str | None] = dict(enumerate(self.classes))
        label_of |= {label: label for label in self.classes} | {None: None, "": None}
        return pa.Table.from_pylist([row.pair(label_of) for row in rows], PAIRS)

    def _blocks_of_files(self) -> Iterator[Iterator[list[_Row]]]:
        numbers = (f"{self.name}-{row:06d}" for row in count())
        return (self._blocks(path, numbers) for path in self.paths)

    def _blocks(self, file: Path, numbers: Iterator[str]) -> Iterator[list[_Row]]:
        """Yield the rows of a file, at most ``GROUP`` at once; other files are not read."""
        at, columns = count(), self.columns
        try:
            for records in self._records(file):
                rows = []
                for record, number in zip(records, at, strict=False):
                    row_id = next(numbers) if columns.id is None else record[columns.id]
                    if row_id is None or row_id == "":
                        raise PairsError(
                            f"{file}, row {number}: the id is empty; every pair needs one."
                        )
                    label = None if columns.label is None else record.get(columns.label)
                    image, caption = record[columns.image], record[columns.caption]
                    rows.append(_Row(file, number, str(row_id), image, caption, label))
                yield rows
        except (pa.ArrowException, tarfile.TarError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise PairsError(f"{file} cannot be read as {file.suffix[1:]}: {reason}") from error
        if next(at) == 0:
            raise PairsError(f"{file} is empty: it has no row.")

    def _records(self, file: Path) -> Iterator[list[dict[str | None, Any]]]:
        """Yield values by the name of their column; images in other files are not read."""
        columns = self.columns
        if file.suffix == ".tar":
            # A shard has its numbers as text; names come first, since a class may be called "7".
            numbers = {str(number): label for number, label in enumerate(self.classes)}
            label_of = numbers | {label: label for label in self.classes}
            records: list[dict[str | None, Any]] = [
                {
                    columns.id: sample.key,
                    columns.image: sample.image,
                    columns.caption: sample.texts.get("txt"),
                    columns.label: label_of.get(text := sample.texts.get("cls", ""), text),
                }
                for sample in read_samples(file, ["txt", "cls"])
            ]
            yield from (records[at : at + GROUP] for at in range(0, len(records), GROUP))
            return
        ours = vars(columns)
        if file.suffix == ".csv":
            table = pa.csv.read_csv(
                file,
                # A single thread knows the number of a row that it cannot parse.
                read_options=pa.csv.ReadOptions(use_threads=False),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                # Columns are read as text: an id like 007 is not a number.
                convert_options=pa.csv.ConvertOptions(
                    column_types={name: pa.string() for name in ours.values() if name}
                ),
            )
            names, batches = table.column_names, table.to_batches(max_chunksize=GROUP)
        else:
            parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
            names = parquet.schema_arrow.names
            own = [name for name in names if name in ours.values()]
            batches = parquet.iter_batches(GROUP, columns=own)
        for part, column in ours.items():
            times = names.count(column)
            is_missing = times == 0 and part != "label"  # files without labels are allowed
            if column is not None and (is_missing or times > 1):
                has = f"{times} times the" if times else "no"
                raise PairsError(
                    f"{file} has {has} column {column!r} ({part}_column); it has: "
                    f"{', '.join(names) or 'none'}."
                )
        yield from (batch.to_pylist() for batch in batches)


def refuse_repeated_ids(splits: Sequence[tuple[Files, Sequence[str]]]) -> None:
    """Refuse an id that occurs twice, in one split or in two.

    Raises:
        PairsError: an id occurs twice.
    """
    seen: dict[str, tuple[int, Files]] = {}
    for files, ids in splits:
        for row, row_id in enumerate(ids):
            if row_id in seen:
                first, where = seen[row_id]
                raise PairsError(
                    f"The id {row_id!r} occurs twice: in row {first} of {where} and row {row} of "
                    f"{files}; ids must be unique (id_column: null numbers the rows instead)."
                )
            seen[row_id] = (row, files)
