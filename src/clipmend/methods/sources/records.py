"""Reads the rows of a parquet file, a shard or a CSV file as plain values, a block at a time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP
from clipmend.engine.folders import LIST, SHARD
from clipmend.errors import PairsError
from clipmend.methods.sources.webdataset import Sample, read_samples

# Bytes that are read at once. Without a limit it is a row group, which may be a complete file.
_BUFFER = 1 << 16
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

Record = Mapping[str | None, Any]
Skip = Callable[[int, str], None]


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


def numbered_records(
    file: Path, columns: Columns, classes: Sequence[str], skip: Skip
) -> Iterator[list[tuple[int, Record]]]:
    """Yield blocks of rows: the number of each in its file, and its values by column.

    Texts are bytes, since they may not be UTF-8. Images in other files are not read.

    Args:
        skip: called with the number of a row that has no columns, and the reason.

    Raises:
        PairsError: a column is missing or occurs twice.
        pa.ArrowException, tarfile.TarError, OSError, UnicodeError: the file is damaged.
    """
    suffix = file.suffix.lower()
    if suffix == SHARD:
        # A shard has its numbers as text; names come first, since a class may be called "7".
        label_of = {f"{number}": label for number, label in enumerate(classes)}
        label_of |= {label: label for label in classes}
        records = (_of_sample(s, columns, label_of) for s in read_samples(file, _MEMBERS))
        numbered = enumerate(records)
        while block := list(islice(numbered, GROUP)):
            yield block
        return
    if suffix == LIST:
        names, numbers, batches = _csv(file, columns, skip)
    else:
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        names, numbers = parquet.schema_arrow.names, count()
        own = [name for name in names if name in vars(columns).values()]
        batches = parquet.iter_batches(GROUP, columns=own)
    _refuse_wrong_columns(file, columns, names)
    for batch in batches:
        yield list(zip(numbers, _values(batch), strict=False))


_MEMBERS = ("txt", "cls", "json")


def _of_sample(sample: Sample, columns: Columns, label_of: Mapping[str, str]) -> Record:
    label = sample.texts.get("cls", b"").decode(errors="backslashreplace").strip()
    caption: object = sample.texts.get("txt")
    if isinstance(caption, bytes):
        caption = caption.removeprefix(b"\xef\xbb\xbf").strip()  # the mark that Windows writes
    elif "json" in sample.texts:
        caption = _caption_in(sample.texts["json"], columns.caption)
    return {
        columns.id: sample.key,
        columns.image: sample.image,
        columns.caption: caption,
        columns.label: label_of.get(label, label),
    }


def _caption_in(text: bytes, column: str) -> object:
    """Return the caption in the JSON member of a sample; None if there is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values.get(column) if isinstance(values, dict) else None


def _csv(
    file: Path, columns: Columns, skip: Skip
) -> tuple[list[str], Iterator[int], Iterator[pa.RecordBatch]]:
    """Return the names of the columns, the numbers of the rows, and the rows."""
    skipped: set[int] = set()

    def note(row: pa.csv.InvalidRow) -> str:
        number = row.number - 2  # counted from 1, and the first row has the names
        skipped.add(number)
        skip(number, f"it has {row.actual_columns} columns, not {row.expected_columns}")
        return "skip"

    table = pa.csv.read_csv(
        file,
        # A single thread knows the number of a row that it cannot parse.
        read_options=pa.csv.ReadOptions(use_threads=False),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        # Columns are read as text: an id like 007 is not a number.
        convert_options=pa.csv.ConvertOptions(
            column_types={name: pa.binary() for name in vars(columns).values() if name}
        ),
    )
    numbers = (number for number in count() if number not in skipped)
    return table.column_names, numbers, iter(table.to_batches(max_chunksize=GROUP))


def _values(batch: pa.RecordBatch) -> list[dict[str | None, Any]]:
    """Return the rows of a batch with every text as bytes: Arrow does not check its encoding."""
    arrays = []
    for array in batch.columns:
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        is_text = any(check(kind) for check in _TEXTS)
        arrays.append(array.cast(pa.large_binary()) if is_text else array)
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names).to_pylist()  # type: ignore[no-any-return]


def _refuse_wrong_columns(file: Path, columns: Columns, names: Sequence[str]) -> None:
    for part, column in vars(columns).items():
        times = names.count(column)
        is_missing = times == 0 and part != "label"  # files without labels are allowed
        if column is not None and (is_missing or times > 1):
            has = f"{times} times the" if times else "no"
            raise PairsError(
                f"{file} has {has} column {column!r} ({part}_column); it has: "
                f"{', '.join(names) or 'none'}."
            )
