"""Reads the rows of a parquet file, a shard or a CSV file as plain values, a block at a time."""

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data.row_groups import GROUP
from clipmend.engine.folders import LIST, SHARD
from clipmend.errors import PairsError
from clipmend.methods.sources.webdataset import Sample, read_samples

csv.field_size_limit(2**31 - 1)  # a caption that is too long must not refuse the file

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
        pa.ArrowException, csv.Error, tarfile.TarError, OSError: the file is damaged.
    """
    suffix = file.suffix.lower()
    if suffix == SHARD:
        # A shard has its numbers as text; names come first, since a class may be called "7".
        label_of = {f"{number}": label for number, label in enumerate(classes)}
        label_of |= {label: label for label in classes}
        records = (_of_sample(s, columns, label_of) for s in read_samples(file, _MEMBERS))
        yield from _in_blocks(enumerate(records))
        return
    names = names_in(file)
    _refuse_wrong_columns(file, columns, names)
    if suffix == LIST:
        yield from _in_blocks(_of_csv(file, names, skip))
        return
    parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    own = [name for name in names if name in vars(columns).values()]
    numbers = count()
    for batch in parquet.iter_batches(GROUP, columns=own):
        yield list(zip(numbers, _values(batch), strict=False))


def _in_blocks(rows: Iterator[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    while block := list(islice(rows, GROUP)):
        yield block


_MEMBERS = ("txt", "cls", "json")


def _of_sample(sample: Sample, columns: Columns, label_of: Mapping[str, str]) -> Record:
    # Windows writes a mark before a text.
    texts = {name: text.removeprefix(BOM_UTF8).strip() for name, text in sample.texts.items()}
    label = texts.get("cls", b"").decode(errors="backslashreplace")
    caption: object = texts.get("txt")
    if "txt" not in texts and "json" in texts:
        caption = _caption_in(texts["json"], columns.caption)
    return {
        columns.id: sample.key,
        columns.image: sample.image,
        columns.caption: caption,
        columns.label: label_of.get(label, label),
    }


def _caption_in(text: bytes, column: str) -> object:
    """Return the caption in the JSON member of a sample, a text as bytes; None: there is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    caption = values.get(column) if isinstance(values, dict) else None
    # JSON may have half a character, which UTF-8 does not have.
    return caption.encode(errors="surrogatepass") if isinstance(caption, str) else caption


def names_in(file: Path) -> list[str]:
    """Return the names of the columns of a parquet or CSV file.

    Raises:
        pa.ArrowException, csv.Error, OSError: the file is damaged.
    """
    if file.suffix.lower() == LIST:
        return next(_lines(file), [])
    names: list[str] = pq.read_schema(file).names
    return names


def _lines(file: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file; bytes that are not UTF-8 become surrogates."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        # Strict: a quotation mark without an end would swallow the rows below it.
        yield from filter(None, csv.reader(text, strict=True))


def _of_csv(file: Path, names: Sequence[str], skip: Skip) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(islice(_lines(file), 1, None)):
        if len(line) != len(names):
            skip(number, f"it has {len(line)} columns, not {len(names)}")
            continue
        encoded = (value.encode(errors="surrogateescape") for value in line)
        yield number, dict(zip(names, encoded, strict=True))


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
