"""Reads the user's own files (parquet, webdataset, CSV beside images) as checked pairs.

Files are read a block of rows at a time, so that a set of pairs may be larger than memory. An error
names the file, the row and its id.
"""

import tarfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from clipmend.data.images import decode
from clipmend.data.pairs import SPLITS, table_of
from clipmend.data.row_groups import GROUP
from clipmend.errors import PairsError
from clipmend.methods.sources.webdataset import Span, read_samples

FORMATS = (".parquet", ".tar", ".csv")
# Bytes that are read at once. Without a limit it is a row group, which may be a complete file.
_BUFFER = 1 << 16
_NAMES = ("row", "id", "image", "caption", "label")


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
class Files:
    """The files of one split, in their order.

    A label is a class name, or (not in CSV) an integer that indexes ``classes``. The label of a
    file without the label column is null.

    Attributes:
        name: the split; rows without ids are numbered after it.
        paths: the files.
        columns: the names of their columns.
        classes: the class names.
    """

    name: str
    paths: Sequence[Path]
    columns: Columns
    classes: Sequence[str]

    def checked(self) -> Iterator[pa.Table]:
        """Yield all rows in the schema ``PAIRS`` with the images' own bytes; decode each image.

        Raises:
            PairsError: a column is missing, a caption or id is null, a label is not a class, or
                an image cannot be decoded; the error names the row.
        """
        for file, blocks in self._blocks():
            error, damaged, images = "", 0, 0
            for block in blocks:
                table = _pairs(file, block, self.classes)
                images += table.num_rows
                for row, image in enumerate(table["image"].to_pylist()):
                    try:
                        decode(image, 1)
                    except PairsError as damage:
                        error = error or f"{_where(file, block, row)}: {damage}"
                        damaged += 1
                if not damaged:
                    yield table
            # Raised after the last row, so that the user learns at once how many are damaged.
            if damaged:
                more = f" ({damaged} of {images} images are like this)" * (damaged > 1)
                raise PairsError(f"{error}{more}")

    def read(self, ids: Container[str]) -> Iterator[pa.Table]:
        """Yield the rows with these ids as ``checked`` does, without decoding."""
        for file, blocks in self._blocks():
            for block in blocks:
                # Filtered first: images of other splits in a shard or in files are not read.
                kept = block.filter(pa.array(row_id in ids for row_id in block["id"].to_pylist()))
                yield _pairs(file, kept, self.classes)

    def __str__(self) -> str:
        """Return the path, or the first path and the last name."""
        first, last = self.paths[0], self.paths[-1]
        return str(first) if len(self.paths) == 1 else f"{first} … {last.name}"

    def _blocks(self) -> Iterator[tuple[Path, Iterator[pa.RecordBatch]]]:
        numbers = (f"{self.name}-{row:06d}" for row in count())
        return ((path, read_rows(path, self.columns, numbers)) for path in self.paths)


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


def read_rows(file: Path, columns: Columns, numbers: Iterator[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a parquet file, a webdataset shard, or a CSV file beside its images.

    The columns are ``row`` (the number in the file, from 0), ``id``, ``image``, ``caption`` and
    ``label``. All but ``row`` and ``id`` are as the file has them. A shard has no column names: its
    keys are ids, ``.txt`` members are captions, and ``.cls`` members are labels.

    Args:
        numbers: the ids of rows that have none.

    Raises:
        PairsError: the file cannot be read, has no row, lacks a column, or an id is empty.
    """
    first = 0
    with _read_errors(file):
        for block in _blocks(file, columns):
            rows = range(first, first + block.num_rows)
            if columns.id is None:
                ids = [next(numbers) for _ in rows]
            else:
                ids = block[columns.id].to_pylist()
            for row, row_id in zip(rows, ids, strict=True):
                if row_id is None or row_id == "":
                    raise PairsError(f"{file}, row {row}: the id is empty; every pair needs one.")
            has_label = columns.label is not None and columns.label in block.schema.names
            label = block[columns.label] if has_label else pa.nulls(len(rows), pa.string())
            text_ids = pa.array(map(str, ids), pa.string())
            arrays = [pa.array(rows), text_ids, block[columns.image], block[columns.caption], label]
            yield pa.RecordBatch.from_arrays(arrays, _NAMES)
            first += len(rows)
    if first == 0:
        raise PairsError(f"{file} is empty: it has no row.")


@contextmanager
def _read_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, tarfile.TarError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PairsError(f"{file} cannot be read as {file.suffix[1:]}: {reason}") from error


def _blocks(file: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of ``GROUP``; images in other files or members are not read."""
    if file.suffix == ".tar":
        samples = read_samples(file, ["txt", "cls"])
        for start in range(0, len(samples), GROUP):
            part = samples[start : start + GROUP]
            spans = [sample.image for sample in part]
            values = {
                columns.image: [
                    span and {"offset": span.offset, "size": span.size} for span in spans
                ],
                columns.caption: [sample.texts.get("txt") for sample in part],
                columns.label: [sample.texts.get("cls") for sample in part],
                columns.id: [sample.key for sample in part],
            }
            values.pop(None, None)  # columns that the user does not have
            yield pa.RecordBatch.from_pydict(values)
        return
    if file.suffix == ".csv":
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        names = pa.csv.open_csv(file, parse_options=parse).schema.names
        _refuse_missing(file, columns, names)
        # All columns are read as text: an id like 007 is not a number.
        as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        table = pa.csv.read_csv(file, parse_options=parse, convert_options=as_text)
        yield from table.to_batches(max_chunksize=GROUP)
        return
    parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    names = parquet.schema_arrow.names
    _refuse_missing(file, columns, names)
    ours = (columns.id, columns.image, columns.caption, columns.label)
    yield from parquet.iter_batches(GROUP, columns=[name for name in names if name in ours])


def _refuse_missing(file: Path, columns: Columns, names: Sequence[str]) -> None:
    needed = {"image_column": columns.image, "caption_column": columns.caption}
    if columns.id is not None:
        needed["id_column"] = columns.id
    for setting, name in needed.items():
        if name not in names:
            raise PairsError(
                f"{file} has no column {name!r} ({setting}); it has: {', '.join(names) or 'none'}."
            )


def _where(file: Path, block: pa.RecordBatch, row: int) -> str:
    return f"{file}, row {block['row'][row]} (id {block['id'][row].as_py()!r})"


def _pairs(file: Path, block: pa.RecordBatch, classes: Sequence[str]) -> pa.Table:
    """Return the rows of ``read_rows`` in the schema ``PAIRS``, with the images' own bytes.

    Raises:
        PairsError: a caption or an image is missing, or a label is not a class.
    """
    return table_of(
        {
            "id": block["id"].to_pylist(),
            "image": list(_images(file, block)),
            "caption": _captions(file, block),
            "label": _labels(file, block, classes),
        }
    )


def _captions(file: Path, block: pa.RecordBatch) -> list[str]:
    column = block["caption"]
    captions: list[Any] = column.to_pylist()
    for row, caption in enumerate(captions):
        if caption is None or caption == "":
            raise PairsError(
                f"{_where(file, block, row)}: the caption is empty; every pair needs one."
            )
        if not isinstance(caption, str):
            raise PairsError(
                f"{_where(file, block, row)}: the caption is {column.type}; it must be text."
            )
    return captions


def _images(file: Path, block: pa.RecordBatch) -> Iterator[bytes]:
    column = block["image"]
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    for row, value in enumerate(column):  # one at a time: a block of images may be large
        image = value.as_py()
        if isinstance(image, str) and file.suffix == ".csv":
            image = _file_bytes(file.parent, image, _where(file, block, row))
        if isinstance(image, dict) and file.suffix == ".tar":
            image = Span(file, **image).read()
        if not isinstance(image, bytes):
            raise PairsError(
                f"{_where(file, block, row)}: the image is "
                f"{'null' if image is None else 'no bytes'}; allowed are encoded bytes, a struct "
                "with a field 'bytes', and (in a CSV file) file names."
            )
        yield image


def _file_bytes(folder: Path, name: str, where: str) -> bytes:
    path = PurePath(name)
    # The key has the bytes of the folder: an image outside could change unnoticed.
    if path.is_absolute() or ".." in path.parts:
        raise PairsError(
            f"{where}: the image {name!r} is not inside {folder}; move it there, because a change "
            "of the folder is what makes the corpus again."
        )
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise PairsError(f"{where}: no image {folder / path} ({reason}).") from error


def _labels(file: Path, block: pa.RecordBatch, classes: Sequence[str]) -> list[str | None]:
    label_of: dict[object, str | None] = dict(enumerate(classes))
    if file.suffix == ".tar":  # a shard has its numbers as text
        label_of |= {str(number): label for number, label in enumerate(classes)}
    label_of |= {label: label for label in classes}
    label_of |= {None: None, "": None}
    values = block["label"].to_pylist()
    for row, value in enumerate(values):
        if value not in label_of:
            raise PairsError(
                f"{_where(file, block, row)}: the label {value!r} is not a class; classes: "
                f"{', '.join(classes)}."
            )
    return [label_of[value] for value in values]
