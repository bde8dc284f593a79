"""Files of the user's own, parquet or CSV beside images, read as checked pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from clipmend.corpus.images import decode
from clipmend.corpus.pairs import SPLITS, table_of
from clipmend.errors import PairsError

FORMATS = (".parquet", ".csv")


@dataclass(frozen=True)
class Columns:
    """What the user's files call the four columns of pairs; no ``id`` column: rows are numbered."""

    id: str | None
    image: str
    caption: str
    label: str


def files_in(path: Path) -> list[Path]:
    """Return the files of pairs that ``path`` is or holds, by name.

    A CSV file is read through its folder, which holds the images too, so that their
    bytes are part of the key.

    Raises:
        PairsError: there is nothing to read, or two formats.
    """
    if path.suffix == ".parquet" and path.is_file():
        return [path]
    if not path.is_dir():
        why = "is neither a folder nor a .parquet file" if path.exists() else "does not exist"
        raise PairsError(
            f"{path} cannot be read as pairs: it {why}; allowed are a parquet file, a folder of "
            "parquet files, and a folder that holds a CSV file and its images."
        )
    for suffix in FORMATS:
        if found := sorted(path.glob(f"*{suffix}")):
            return found
    raise PairsError(f"{path} holds no pairs: there is no *.parquet and no *.csv file in it.")


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


def read_split(
    name: str, files: Sequence[Path], columns: Columns, classes: Sequence[str]
) -> pa.Table:
    """Return the pairs in ``files``, in their order, in the schema ``PAIRS``; images as they came.

    Labels are class names, or integers (in parquet) that index ``classes``; a file without
    the label column has unknown labels.

    Raises:
        PairsError: a column is missing, a caption or id is null, a label is no class, or
            an image cannot be decoded; the error names the row.
    """
    numbers = (f"{name}-{row:06d}" for row in count())
    return pa.concat_tables([_read_file(file, columns, classes, numbers) for file in files])


def refuse_repeated_ids(tables: Sequence[pa.Table], places: Sequence[str]) -> None:
    """Refuse ids that stand twice in a table, or in two of them; ``places`` names the tables.

    Raises:
        PairsError: an id stands twice.
    """
    seen: dict[str, tuple[int, str]] = {}
    for table, place in zip(tables, places, strict=True):
        for row, row_id in enumerate(table["id"].to_pylist()):
            if row_id in seen:
                first, where = seen[row_id]
                raise PairsError(
                    f"The id {row_id!r} stands twice: in row {first} of {where} and row {row} of "
                    f"{place}; ids must be unique (id_column: null numbers the rows instead)."
                )
            seen[row_id] = (row, place)


def _read_file(
    file: Path, columns: Columns, classes: Sequence[str], numbers: Iterator[str]
) -> pa.Table:
    raw = _raw_table(file)
    wanted = {"image_column": columns.image, "caption_column": columns.caption}
    if columns.id is not None:
        wanted["id_column"] = columns.id
    for setting, name in wanted.items():
        if name not in raw.column_names:
            raise PairsError(
                f"{file} has no column {name!r} ({setting}); it has: "
                f"{', '.join(raw.column_names) or 'none'}."
            )
    numbered = columns.id is None
    ids = list(islice(numbers, raw.num_rows)) if numbered else _ids(file, raw[columns.id])
    rows = _Rows(file, ids)
    captions = _captions(rows, raw[columns.caption])
    images = list(_images(rows, raw[columns.image]))
    _refuse_undecodable(rows, images)
    return table_of(
        {
            "id": ids,
            "image": images,
            "caption": captions,
            "label": _labels(rows, raw, columns.label, classes),
        }
    )


@dataclass(frozen=True)
class _Rows:
    """Says where a row is: its number, counted from 0 without any header, and its id."""

    file: Path
    ids: Sequence[str]

    def at(self, row: int) -> str:
        return f"{self.file}, row {row} (id {self.ids[row]!r})"


def _raw_table(file: Path) -> pa.Table:
    try:
        table = _csv_table(file) if file.suffix == ".csv" else pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PairsError(f"{file} cannot be read as {file.suffix[1:]}: {reason}") from error
    if table.num_rows == 0:
        raise PairsError(f"{file} is empty: it has columns, but no row.")
    return table


def _csv_table(file: Path) -> pa.Table:
    """Return the CSV's columns as text: an id like 007 is no number."""
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    names = pa.csv.open_csv(file, parse_options=parse).schema.names
    as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return pa.csv.read_csv(file, parse_options=parse, convert_options=as_text)


def _ids(file: Path, column: pa.ChunkedArray) -> list[str]:
    ids: list[Any] = column.to_pylist()
    for row, row_id in enumerate(ids):
        if row_id is None or row_id == "":
            raise PairsError(f"{file}, row {row}: the id is empty; every pair needs one.")
    return [str(row_id) for row_id in ids]


def _captions(rows: _Rows, column: pa.ChunkedArray) -> list[str]:
    captions: list[Any] = column.to_pylist()
    for row, caption in enumerate(captions):
        if caption is None or caption == "":
            raise PairsError(f"{rows.at(row)}: the caption is empty; every pair needs one.")
        if not isinstance(caption, str):
            raise PairsError(f"{rows.at(row)}: the caption is {column.type}; it must be text.")
    return captions


def _images(rows: _Rows, column: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield each row's encoded bytes: they stand in it, in a struct, or in the file it names."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    for row, value in enumerate(column):
        image = value.as_py()
        if isinstance(image, str) and rows.file.suffix == ".csv":
            image = _file_bytes(rows, row, image)
        if not isinstance(image, bytes):
            raise PairsError(
                f"{rows.at(row)}: the image is {'null' if image is None else 'no bytes'}; allowed "
                "are encoded bytes, a struct with a field 'bytes', and (in a CSV file) file names."
            )
        yield image


def _file_bytes(rows: _Rows, row: int, name: str) -> bytes:
    inside = PurePath(name)
    folder = rows.file.parent
    if inside.is_absolute() or ".." in inside.parts:
        raise PairsError(
            f"{rows.at(row)}: the image {name!r} is not inside {folder}; images must be, because "
            "the folder's bytes say when the corpus is made again."
        )
    try:
        return (folder / inside).read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise PairsError(f"{rows.at(row)}: no image {folder / inside}: {reason}.") from error


def _refuse_undecodable(rows: _Rows, images: Sequence[bytes]) -> None:
    reasons: dict[int, str] = {}
    for row, image in enumerate(images):
        try:
            decode(image, 1)
        except PairsError as error:
            reasons[row] = str(error)
    if reasons:
        row, reason = next(iter(reasons.items()))
        more = f" ({len(reasons)} of {len(images)} images are like this)" * (len(reasons) > 1)
        raise PairsError(f"{rows.at(row)}: {reason}{more}")


def _labels(rows: _Rows, raw: pa.Table, column: str, classes: Sequence[str]) -> list[str | None]:
    if column not in raw.column_names:
        return [None] * raw.num_rows
    known: dict[object, str] = dict(enumerate(classes)) | {name: name for name in classes}
    unknown = dict.fromkeys((None, ""))
    labels: list[str | None] = []
    for row, value in enumerate(raw[column].to_pylist()):
        if value not in known and value not in unknown:
            raise PairsError(
                f"{rows.at(row)}: the label {value!r} is no class; classes: {', '.join(classes)}."
            )
        labels.append(known.get(value))
    return labels
