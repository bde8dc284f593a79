"""Rows of the user's own files, a block at a time, checked and brought into the schema of pairs."""

import tarfile
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from clipmend.data.images import decode
from clipmend.data.pairs import table_of
from clipmend.data.row_groups import GROUP
from clipmend.errors import PairsError
from clipmend.methods.sources.webdataset import Sample, Span, read_samples

_READ_AHEAD = 1 << 16  # bytes; without a limit all of a row group, which may be all of a file


@dataclass(frozen=True)
class Columns:
    """What the files call the columns; no ``id``: rows are numbered, no ``label``: none is read."""

    id: str | None
    image: str
    caption: str
    label: str | None


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, as they stand in it.

    Attributes:
        numbers: where each row stands, counted from 0 without any header.
        ids: of each row.
        raw: their columns, under the names of ``columns``.
    """

    file: Path
    columns: Columns
    numbers: Sequence[int]
    ids: Sequence[str]
    raw: pa.RecordBatch

    def only(self, wanted: Container[str]) -> "Rows":
        """Return those rows whose id is wanted."""
        keep = [place for place, row_id in enumerate(self.ids) if row_id in wanted]
        return Rows(
            self.file,
            self.columns,
            [self.numbers[place] for place in keep],
            [self.ids[place] for place in keep],
            self.raw.take(pa.array(keep, pa.int64())),
        )

    def table(self, classes: Sequence[str]) -> pa.Table:
        """Return them in the schema ``PAIRS``, images as they came.

        Raises:
            PairsError: a caption or image is none, or a label no class; the error names the row.
        """
        return table_of(
            {
                "id": self.ids,
                "image": list(self._images()),
                "caption": self._captions(),
                "label": self._labels(classes),
            }
        )

    def at(self, place: int) -> str:
        """Say where a row is: its number in the file, and its id."""
        return f"{self.file}, row {self.numbers[place]} (id {self.ids[place]!r})"

    def _captions(self) -> list[str]:
        column = self.raw[self.columns.caption]
        captions: list[Any] = column.to_pylist()
        for row, caption in enumerate(captions):
            if caption is None or caption == "":
                raise PairsError(f"{self.at(row)}: the caption is empty; every pair needs one.")
            if not isinstance(caption, str):
                raise PairsError(f"{self.at(row)}: the caption is {column.type}; it must be text.")
        return captions

    def _images(self) -> Iterator[bytes]:
        """Yield each row's encoded bytes: in it, in a struct, or in the file it names."""
        column = self.raw[self.columns.image]
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = pc.struct_field(column, "bytes")
        for row, value in enumerate(column):
            image = value.as_py()
            if isinstance(image, str) and self.file.suffix == ".csv":
                image = self._file_bytes(row, image)
            if isinstance(image, dict) and self.file.suffix == ".tar":
                image = Span(self.file, **image).read()
            if not isinstance(image, bytes):
                raise PairsError(
                    f"{self.at(row)}: the image is {'null' if image is None else 'no bytes'}; "
                    "allowed are encoded bytes, a struct with a field 'bytes', and (in a CSV file) "
                    "file names."
                )
            yield image

    def _file_bytes(self, row: int, name: str) -> bytes:
        inside, folder = PurePath(name), self.file.parent
        if inside.is_absolute() or ".." in inside.parts:
            raise PairsError(
                f"{self.at(row)}: the image {name!r} is not inside {folder}; images must be, "
                "because the folder's bytes say when the corpus is made again."
            )
        try:
            return (folder / inside).read_bytes()
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise PairsError(f"{self.at(row)}: no image {folder / inside}: {reason}.") from error

    def _labels(self, classes: Sequence[str]) -> list[str | None]:
        name = self.columns.label
        if name is None or name not in self.raw.schema.names:
            return [None] * self.raw.num_rows
        known: dict[object, str] = dict(enumerate(classes))
        if self.file.suffix == ".tar":  # a shard writes the number as text
            known |= {str(number): label for number, label in enumerate(classes)}
        known |= {label: label for label in classes}
        unknown = dict.fromkeys((None, ""))
        labels: list[str | None] = []
        for row, value in enumerate(self.raw[name].to_pylist()):
            if value not in known and value not in unknown:
                raise PairsError(
                    f"{self.at(row)}: the label {value!r} is no class; classes: "
                    f"{', '.join(classes)}."
                )
            labels.append(known.get(value))
        return labels


@dataclass
class Damage:
    """The images of a file that cannot be decoded, as far as it was looked at."""

    first: str = ""
    count: int = 0
    images: int = 0

    def look_at(self, rows: Rows, images: Sequence[bytes]) -> None:
        """Decode the images of some rows."""
        self.images += len(images)
        for place, image in enumerate(images):
            try:
                decode(image, 1)
            except PairsError as error:
                self.first = self.first or f"{rows.at(place)}: {error}"
                self.count += 1

    def refuse(self) -> None:
        """Raise ``PairsError`` if there was one."""
        if self.count:
            more = f" ({self.count} of {self.images} images are like this)" * (self.count > 1)
            raise PairsError(f"{self.first}{more}")


def read_rows(file: Path, columns: Columns, numbers: Iterator[str]) -> Iterator[Rows]:
    """Yield the rows of a parquet file, a webdataset shard, or a CSV file beside its images.

    A shard's columns have no names of their own: its keys are ids, ``.txt`` are captions and
    ``.cls`` labels, names or numbers.

    Args:
        numbers: the ids of rows that have none.

    Raises:
        PairsError: it cannot be read, has no row, lacks a column, or an id is empty.
    """
    first = 0
    with _unreadable_told(file):
        for block in _blocks(file, columns):
            if columns.id is None:
                ids = [next(numbers) for _ in range(block.num_rows)]
            else:
                ids = _ids(file, first, block[columns.id])
            yield Rows(file, columns, range(first, first + len(ids)), ids, block)
            first += len(ids)
    if first == 0:
        raise PairsError(f"{file} is empty: it has no row.")


@contextmanager
def _unreadable_told(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, tarfile.TarError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PairsError(f"{file} cannot be read as {file.suffix[1:]}: {reason}") from error


def _blocks(file: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of ``GROUP``, images that lie elsewhere not read."""
    if file.suffix == ".tar":
        samples = read_samples(file, ["txt", "cls"])
        starts = range(0, len(samples), GROUP)
        return (_sampled(samples[start : start + GROUP], columns) for start in starts)
    if file.suffix == ".csv":
        table = _csv_table(file)
        _refuse_missing(file, columns, table.column_names)
        return iter(table.to_batches(max_chunksize=GROUP))
    parquet = pq.ParquetFile(file, buffer_size=_READ_AHEAD, pre_buffer=False)
    names = parquet.schema_arrow.names
    _refuse_missing(file, columns, names)
    ours = (columns.id, columns.image, columns.caption, columns.label)
    wanted = [name for name in names if name in ours]
    batches: Iterator[pa.RecordBatch] = parquet.iter_batches(GROUP, columns=wanted)
    return batches


def _sampled(samples: Sequence[Sample], columns: Columns) -> pa.RecordBatch:
    images = [sample.image for sample in samples]
    found: dict[str, list[Any]] = {
        columns.image: [image and {"offset": image.offset, "size": image.size} for image in images],
        columns.caption: [sample.texts.get("txt") for sample in samples],
    }
    if columns.label is not None:
        found[columns.label] = [sample.texts.get("cls") for sample in samples]
    if columns.id is not None:
        found[columns.id] = [sample.key for sample in samples]
    return pa.RecordBatch.from_pydict(found)


def _csv_table(file: Path) -> pa.Table:
    """Return the CSV's columns as text: an id like 007 is no number."""
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    names = pa.csv.open_csv(file, parse_options=parse).schema.names
    as_text = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return pa.csv.read_csv(file, parse_options=parse, convert_options=as_text)


def _refuse_missing(file: Path, columns: Columns, names: Sequence[str]) -> None:
    wanted = {"image_column": columns.image, "caption_column": columns.caption}
    if columns.id is not None:
        wanted["id_column"] = columns.id
    for setting, name in wanted.items():
        if name not in names:
            raise PairsError(
                f"{file} has no column {name!r} ({setting}); it has: {', '.join(names) or 'none'}."
            )


def _ids(file: Path, first: int, column: pa.Array) -> list[str]:
    ids: list[Any] = column.to_pylist()
    for row, row_id in enumerate(ids, first):
        if row_id is None or row_id == "":
            raise PairsError(f"{file}, row {row}: the id is empty; every pair needs one.")
    return [str(row_id) for row_id in ids]
