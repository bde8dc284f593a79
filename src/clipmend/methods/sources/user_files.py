"""Reads the user's own files (parquet, webdataset, CSV beside images) as checked pairs.

Files are read a block of rows at a time, so that a set of pairs may be larger than memory. A row
that cannot be used is noted with its file, number and id.
"""

import csv
import logging
import os
import re
import tarfile
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import isnan
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from clipmend.data.images import decode
from clipmend.data.pairs import PAIRS
from clipmend.engine.folders import (
    LIST,
    SHARD,
    TABLE,
    is_document,
    is_junk,
    is_pointer,
    pair_files,
    visible,
)
from clipmend.errors import PairsError
from clipmend.methods.sources.bad_rows import BadRow, BadRows, UnusableRowError, undecoded
from clipmend.methods.sources.records import Columns, Record, numbered_records
from clipmend.methods.sources.webdataset import Span

log = logging.getLogger(__name__)

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    "trusted": "trusted",
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Words in the names of files -> splits; the names of the hub are among them."""

_LONGEST = 10_000  # letters of a caption
_DAMAGED = (pa.ArrowException, tarfile.TarError, csv.Error, OSError, ValueError, OverflowError)
"""What readers raise for damaged files, and for values that Python does not have."""


def files_in(path: Path) -> list[Path]:
    """Return the files of pairs that ``path`` is or holds, by name.

    A CSV file is read through its folder, which also holds the images, so that their bytes are
    part of the key.

    Raises:
        PairsError: the folder has no such files, files of two formats, or a link to nowhere.
    """
    if path.suffix.lower() in (TABLE, SHARD) and path.is_file():
        return [path]
    if not path.is_dir():
        why = "is not a folder, .parquet or .tar file" if path.exists() else "does not exist"
        raise PairsError(
            f"{path} cannot be read as pairs: it {why}; allowed are a parquet file, a webdataset "
            "shard, a folder of either, and a folder that holds a CSV file and its images."
        )
    files = {suffix: paths for suffix, paths in pair_files(path).items() if paths}
    if not files:
        raise PairsError(f"{path} holds no pairs: no *.parquet, *.tar or *.csv file is in it.")
    if len(files) > 1:
        raise PairsError(
            f"{path} holds pairs in several formats, *{' and *'.join(files)}; move the files to "
            "read into a folder of their own."
        )
    suffix, found = next(iter(files.items()))
    if suffix != LIST and (below := [inner.name for inner in visible(path) if _has_pairs(inner)]):
        log.warning("%s: files in the folders in it are not read: %s", path, ", ".join(below))
    return found


def _has_pairs(path: Path) -> bool:
    names = visible(path) if path.is_dir() else []
    return any(inner.suffix.lower() in (TABLE, SHARD) for inner in names)


def splits_in(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files by the split in their names; without such names all are ``train``.

    ``test.parquet``, ``test-00000-of-00002.parquet`` and ``cc3m-test-0000.tar`` are of ``test``.

    Raises:
        PairsError: some files are named after a split and others are not, or one after two.
    """
    return _named_splits(files) or {"train": list(files)}


def files_of_split(name: str, files: Sequence[Path]) -> list[Path]:
    """Return those files of a folder that are of one split, for which the folder was given.

    Files that are all named after one split may be evaluated as another, but never trained on:
    ImageNet's validation images are often a test.

    Raises:
        PairsError: the files are named after other splits.
    """
    named = _named_splits(files)
    if not named or (len(named) == 1 and name in ("val", "test")):
        return list(files)
    if name not in named:
        raise PairsError(
            f"{files[0].parent} is given for {name}, but its files are named after "
            f"{', '.join(named)}; give the files of {name}, or rename them."
        )
    return named[name]


def _named_splits(files: Sequence[Path]) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z0-9]+", file.stem.lower())
        splits = list(dict.fromkeys(_SPLITS[word] for word in words if word in _SPLITS))
        if len(splits) > 1:
            raise PairsError(f"{file} is named after several splits: {', '.join(splits)}.")
        named.setdefault(splits[0] if splits else "", []).append(file)
    others = named.pop("", [])
    if named and others:
        raise PairsError(
            f"{files[0].parent} holds files named after splits and other files "
            f"({', '.join(file.name for file in others)}); names of splits are "
            f"{', '.join(_SPLITS)}."
        )
    return named


@dataclass(frozen=True)
class _Row:
    """A row as its file has it; texts are bytes.

    Attributes:
        id: the id as text; where it is not one, a text that stands for it.
        fault: why the row cannot be used, if its id already says so.
    """

    file: Path
    number: int
    id: str
    record: Record
    columns: Columns
    fault: str | None

    def pair(self, label_of: Mapping[object, str | None]) -> dict[str, Any]:
        """Return the columns of ``PAIRS``, with the image's own bytes.

        Raises:
            UnusableRowError: the id, the caption or the image is missing or cannot be used.
            PairsError: the label is not a class.
        """
        if self.fault is not None:
            raise UnusableRowError(self.fault)
        caption = self._caption()
        image = self._image()
        label = self.record.get(self.columns.label) if self.columns.label is not None else None
        if isinstance(label, float) and isnan(label):  # how pandas writes a missing number
            label = None
        if isinstance(label, bytes):
            label = label.decode(errors="backslashreplace")
        # True equals 1, and would be a number of a class.
        if isinstance(label, list | dict | bool) or label not in label_of:
            classes = ", ".join(dict.fromkeys(filter(None, label_of.values())))
            raise PairsError(
                f"{self.bad(f'the label {label!r} is not a class')}; classes: {classes}."
            )
        return {"id": self.id, "image": image, "caption": caption, "label": label_of[label]}

    def bad(self, reason: object) -> BadRow:
        """Return the row as one that cannot be used."""
        return BadRow(str(self.file), self.number, self.id or None, str(reason).rstrip("."))

    def _caption(self) -> str:
        caption = self.record[self.columns.caption]
        if isinstance(caption, bytes):
            try:
                caption = caption.decode()
            except UnicodeDecodeError:
                raise UnusableRowError("the caption is not UTF-8 text") from None
        if not isinstance(caption, str | None):
            raise UnusableRowError(f"the caption is {type(caption).__name__}; it must be text")
        if caption is None or not any(map(_is_visible, caption)):
            raise UnusableRowError("the caption is empty")
        if len(caption) > _LONGEST:  # a tokenizer takes hours for a word of a million letters
            raise UnusableRowError(
                f"the caption has {len(caption):,} letters; at most {_LONGEST:,} are allowed"
            )
        return caption

    def _image(self) -> bytes:
        image = self.record[self.columns.image]
        if isinstance(image, dict) and "bytes" in image:
            image = image["bytes"]
        elif isinstance(image, bytes) and self.file.suffix.lower() == LIST:
            image = self._file_bytes(os.fsdecode(image))
        elif isinstance(image, Span):
            image = image.read()
        if not isinstance(image, bytes):
            raise UnusableRowError(
                f"the image is {'null' if image is None else 'no bytes'}; allowed are encoded "
                "bytes, a struct with a field 'bytes', and (in a CSV file) file names"
            )
        return image

    def _file_bytes(self, name: str) -> bytes:
        folder, path = self.file.parent, PurePath(name)
        file = folder / path
        # The key has the bytes of the folder: an image outside could change unnoticed.
        if path.is_absolute() or ".." in path.parts:
            raise UnusableRowError(
                f"the image {name!r} is not inside {folder}; move it there, because a change of "
                "the folder is what makes the corpus again"
            )
        if is_document(name) or any(map(is_junk, path.parts)):
            raise UnusableRowError(f"the image {name!r} is hidden, or no image by its suffix")
        try:
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise UnusableRowError(f"the image {file} is not a file")
            return file.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnusableRowError(f"no image {file} ({reason})") from error


@dataclass(frozen=True)
class Files:
    """The files of one split, in their order.

    A label is a class name, or (not in CSV) an integer that indexes ``classes``. The label of a
    file without the label column is null. A shard has no column names: its keys are ids, ``.txt``
    members are captions (or the caption in ``.json``), and ``.cls`` members are labels. Rows
    without ids are numbered after ``name``, the split.
    """

    name: str
    paths: Sequence[Path]
    columns: Columns
    classes: Sequence[str]
    bad: BadRows = field(default_factory=BadRows)

    def checked(self) -> Iterator[pa.RecordBatch]:
        """Yield the usable rows in the schema ``PAIRS`` with the images' own bytes.

        Every image is decoded. Rows that cannot be used are added to ``bad``.

        Raises:
            PairsError: a file cannot be read, has no row or lacks a column; a label is not a class;
                or a row cannot be used and the policy is to refuse it. It names file and row.
        """
        for blocks in self._blocks_of_files():
            for rows in blocks:
                yield from self._batches(rows, check=True)
            self.bad.check_policy()

    def read(self, ids: Container[str]) -> Iterator[pa.RecordBatch]:
        """Yield the usable rows with these ids, after ``checked``, without decoding."""
        found = self.bad.found
        for blocks in self._blocks_of_files():
            for rows in blocks:
                # Filtered first: images of other splits in a shard or in files are not read.
                own = [row for row in rows if row.id in ids]
                usable = [row for row in own if (str(row.file), row.number) not in found]
                yield from self._batches(usable, check=False)

    def __str__(self) -> str:
        """Return the path, or the first path and the last name."""
        first, last = self.paths[0], self.paths[-1]
        return str(first) if len(self.paths) == 1 else f"{first} … {last.name}"

    def _batches(self, rows: Sequence[_Row], *, check: bool) -> list[pa.RecordBatch]:
        label_of: dict[object, str | None] = dict(enumerate(self.classes))
        label_of |= {label: label for label in self.classes} | {None: None, "": None}
        pairs = []
        for row in rows:
            try:
                pair = row.pair(label_of)
                if check:
                    _refuse_undecodable(pair["image"])
                pairs.append(pair)
            except UnusableRowError as reason:
                if not check:
                    raise PairsError(f"{row.bad(reason)}; it was changed meanwhile.") from reason
                self.bad.add(row.bad(reason))
        self.bad.total += len(rows) if check else 0
        batches: list[pa.RecordBatch] = pa.Table.from_pylist(pairs, PAIRS).to_batches()
        return batches

    def _blocks_of_files(self) -> Iterator[Iterator[list[_Row]]]:
        numbers = (f"{self.name}-{row:06d}" for row in count())
        return (self._blocks(path, numbers) for path in self.paths)

    def _blocks(self, file: Path, numbers: Iterator[str]) -> Iterator[list[_Row]]:
        """Yield the rows of a file in blocks; other files are not read."""
        is_empty = True
        skip = partial(self._skip, file)
        try:
            for block in numbered_records(file, self.columns, self.classes, skip):
                is_empty &= not block
                yield [self._row(file, number, record, numbers) for number, record in block]
        except _DAMAGED as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if file.is_file() and is_pointer(file):
                reason = "it is a pointer of Git LFS; run `git lfs pull` to get the file"
            raise PairsError(f"{file} cannot be read as {file.suffix[1:]}: {reason}") from error
        if is_empty:
            raise PairsError(f"{file} is empty: it has no row.")

    def _row(self, file: Path, number: int, record: Record, numbers: Iterator[str]) -> _Row:
        value = next(numbers) if self.columns.id is None else record[self.columns.id]
        fault = None
        if isinstance(value, bytes):
            text = value.decode(errors="surrogateescape")
        else:
            is_missing = value is None or (isinstance(value, float) and isnan(value))
            text = "" if is_missing else str(value)
        if text == "":
            fault = "the id is empty"
        elif undecoded(text):
            fault = "the id is not UTF-8 text"
            text = os.fsencode(text).decode(errors="backslashreplace")
        return _Row(file, number, text, record, self.columns, fault)

    def _skip(self, file: Path, number: int, reason: str) -> None:
        """Note a row that its file has no columns for."""
        row = BadRow(str(file), number, None, reason)
        self.bad.total += (row.file, row.row) not in self.bad.found
        self.bad.add(row)


def _is_visible(letter: str) -> bool:
    return letter.isprintable() and not letter.isspace()


def _refuse_undecodable(image: bytes) -> None:
    try:
        decode(image, 1)
    except PairsError as damage:
        raise UnusableRowError(str(damage)) from damage


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
