"""Reads the rows of CC3M (caption and web address), and takes a seeded subset of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmend.data.seeds import seed_of
from clipmend.engine.folders import TABLE, pair_files
from clipmend.errors import DownloadError
from clipmend.methods.sources.user_files import files_of_split

_SCHEMA = pa.schema([("caption", pa.string()), ("url", pa.string())])
_ADDRESS = r"^\s*[A-Za-z][A-Za-z0-9+.-]*://"
_FORMATS = (
    "allowed are the TSV of CC3M (caption, tab, URL, no header), a parquet file, and a folder of "
    "parquet files"
)


def read_rows(path: Path, caption_column: str, url_column: str) -> pa.Table:
    """Return all rows as ``caption`` and ``url``, in the order of the files.

    Raises:
        DownloadError: ``path`` has no such rows, or its columns are not a caption and a URL.
    """
    files = [path]
    if path.is_dir():
        if not (files := pair_files(path)[TABLE]):
            raise DownloadError(f"{path} holds no *.parquet file; {_FORMATS}.")
        files = files_of_split("train", files)  # the hub's files of other splits lie beside
    if not files[0].is_file():
        raise DownloadError(f"{path} does not exist; {_FORMATS}.")
    is_parquet = files[0].suffix.lower() == TABLE
    form = "parquet" if is_parquet else "caption, tab, URL"
    tables = []
    for file in files:
        try:
            if is_parquet:
                table = _parquet(file, {"caption_column": caption_column, "url_column": url_column})
            else:
                table = _tsv(file)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DownloadError(f"{file} cannot be read as {form}: {reason}") from error
        _refuse_wrong_columns(file, table)
        tables.append(table)
    return pa.concat_tables(tables)


def order_of(count: int, seed: int) -> NDArray[np.int64]:
    """Return the positions 0 to ``count`` - 1 in a seeded order.

    The order of two positions depends on ``seed`` and these two alone: positions are sorted by the
    numbers that SplitMix64 (Steele et al. 2014) gives them, which are all different.
    """
    state = np.uint64(seed_of(seed, "cc3m/rows"))
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + state
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    # SHA-256 of each of 3.3 million rows takes 13 s where this takes 1 s.
    order: NDArray[np.int64] = np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")
    return order


def sample_rows(rows: pa.Table, train: int, trusted: int, seed: int) -> dict[str, pa.Table]:
    """Return the rows of ``train`` and ``trusted`` as ``id``, ``caption``, ``url``, ids ascending.

    An id is the row's position in the file. ``train`` is the front of the seeded order and
    ``trusted`` its end, so that more rows in one split leave the other unchanged.

    Raises:
        DownloadError: the file has too few rows.
    """
    if rows.num_rows < train + trusted:
        raise DownloadError(
            f"train: {train} and trusted: {trusted} need more rows than the file has; it has "
            f"{rows.num_rows} rows in all; lower train or trusted."
        )
    order = order_of(rows.num_rows, seed)
    splits = {}
    for name, part in (("train", order[:train]), ("trusted", order[len(order) - trusted :])):
        positions = np.sort(part)
        ids = pa.array([f"{position:08d}" for position in positions.tolist()], pa.string())
        splits[name] = rows.take(pa.array(positions)).add_column(0, "id", ids)
    return splits


def _parquet(file: Path, columns: Mapping[str, str]) -> pa.Table:
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    for setting, name in columns.items():
        if name not in names:
            raise DownloadError(
                f"{file} has no column {name!r} ({setting}); it has: {', '.join(names)}."
            )
    ours = list(columns.values())
    table = parquet.read(ours).select(ours).rename_columns(_SCHEMA.names)
    return pa.table([_texts(table[name]) for name in _SCHEMA.names], schema=_SCHEMA)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as UTF-8 text; a value that is not becomes null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # Arrow reads text without a check of its encoding, and checks it where bytes become text.
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.string())
    encoded = column.cast(pa.large_binary())
    try:
        return encoded.cast(pa.string())
    except pa.ArrowInvalid:
        chunks = [[_decoded(value) for value in chunk.to_pylist()] for chunk in encoded.chunks]
        return pa.chunked_array(chunks, pa.string())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _tsv(file: Path) -> pa.Table:
    """Return the rows of a TSV; a row that is not a caption and a URL in UTF-8 becomes nulls."""
    try:
        return pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=_SCHEMA.names),
            # Captions of CC3M have unpaired quotation marks.
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pa.csv.ConvertOptions(column_types=_SCHEMA),
        )
    except pa.ArrowInvalid:
        # Slow, and needed only where a row is damaged: every line is a row, whatever it holds.
        lines = [line.split(b"\t") for line in file.read_bytes().splitlines() if line]
        if 2 * sum(len(line) == 2 for line in lines) <= len(lines):
            raise  # another format
    texts = [list(map(_decoded, line)) if len(line) == 2 else [None, None] for line in lines]
    captions, urls = zip(*texts, strict=True)
    return pa.table([captions, urls], schema=_SCHEMA)


def _refuse_wrong_columns(file: Path, table: pa.Table) -> None:
    if table.num_rows == 0:
        raise DownloadError(f"{file} is empty: it has no row.")
    is_address = pc.fill_null(pc.match_substring_regex(table["url"], _ADDRESS), False)
    first = table["url"][0].as_py()
    if pc.sum(is_address).as_py() * 2 < table.num_rows:
        captions = pc.fill_null(pc.match_substring_regex(table["caption"], _ADDRESS), False)
        swapped = pc.sum(captions).as_py() * 2 > table.num_rows
        raise DownloadError(
            f"{file}: most rows have no address in the URL column, the first has {first!r}"
            f"{'; the columns are swapped' if swapped else ''}. A row is a caption, then a URL."
        )
    if first is not None and not is_address[0].as_py():
        raise DownloadError(
            f"{file} begins with a row whose URL is {first!r}, probably a header; remove it, "
            "because a row's id is its position."
        )
