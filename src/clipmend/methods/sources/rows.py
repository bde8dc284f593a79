"""The rows of CC3M, captions and addresses, read from its files and drawn in a seeded order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmend.data.seeds import seed_of
from clipmend.errors import DownloadError

_SCHEMA = pa.schema([("caption", pa.string()), ("url", pa.string())])
_ADDRESS = r"^\s*[A-Za-z][A-Za-z0-9+.-]*://"
_FORMATS = (
    "allowed are the TSV of CC3M (caption, tab, URL, no header), a parquet file, and a folder of "
    "parquet files"
)


def read_rows(path: Path, caption_column: str, url_column: str) -> pa.Table:
    """Return all rows as ``caption`` and ``url``, in the order of the files.

    Raises:
        DownloadError: there are no such rows, or the columns are not what they should be.
    """
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise DownloadError(f"{path} holds no *.parquet file; {_FORMATS}.")
    elif path.is_file():
        files = [path]
    else:
        raise DownloadError(f"{path} does not exist; {_FORMATS}.")
    if files[0].suffix == ".parquet":
        tables = [_parquet(file, caption_column, url_column) for file in files]
    else:
        tables = [_tsv(path)]
    for file, table in zip(files, tables, strict=True):
        _refuse_wrong_columns(file, table)
    return pa.concat_tables(tables)


def order_of(count: int, seed: int) -> NDArray[np.int64]:
    """Return the positions 0 to ``count`` - 1 in a seeded order.

    Where a position stands relative to another depends on ``seed`` and these two alone: the
    order is by the numbers that SplitMix64 (Steele et al. 2014) gives to positions, all different.
    """
    state = np.uint64(seed_of(seed, "cc3m/rows"))
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + state
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    order: NDArray[np.int64] = np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")
    return order


def draw(rows: pa.Table, train: int, trusted: int, seed: int) -> dict[str, pa.Table]:
    """Return the rows of ``train`` and ``trusted`` as ``id``, ``caption``, ``url``, ids ascending.

    An id is the row's position in the file. ``train`` is taken from the front of the seeded order
    and ``trusted`` from its end, so that more of one leaves the other as it was.

    Raises:
        DownloadError: there are too few rows.
    """
    if rows.num_rows < train + trusted:
        raise DownloadError(
            f"{train} rows to train on and {trusted} trusted ones were asked for, and there are "
            f"{rows.num_rows} rows in all; lower train or trusted."
        )
    order = order_of(rows.num_rows, seed)
    drawn = {"train": order[:train], "trusted": order[len(order) - trusted :]}
    return {name: _part(rows, np.sort(positions)) for name, positions in drawn.items()}


def _part(rows: pa.Table, positions: NDArray[np.int64]) -> pa.Table:
    ids = pa.array([f"{position:08d}" for position in positions.tolist()], pa.string())
    return rows.take(pa.array(positions)).add_column(0, "id", ids)


def _parquet(file: Path, caption_column: str, url_column: str) -> pa.Table:
    try:
        parquet = pq.ParquetFile(file)
        for setting, name in (("caption_column", caption_column), ("url_column", url_column)):
            if name not in parquet.schema_arrow.names:
                raise DownloadError(
                    f"{file} has no column {name!r} ({setting}); it has: "
                    f"{', '.join(parquet.schema_arrow.names)}."
                )
        table = parquet.read([caption_column, url_column]).select([caption_column, url_column])
        return table.rename_columns(_SCHEMA.names).cast(_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise DownloadError(f"{file} cannot be read as parquet: {_first_line(error)}") from error


def _tsv(file: Path) -> pa.Table:
    """Return the rows of a TSV, in which a quotation mark is a character like others."""
    try:
        return pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=_SCHEMA.names),
            parse_options=pa.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pa.csv.ConvertOptions(column_types=_SCHEMA),
        )
    except (pa.ArrowException, OSError) as error:
        raise DownloadError(
            f"{file} cannot be read as caption, tab, URL: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _refuse_wrong_columns(file: Path, table: pa.Table) -> None:
    if table.num_rows == 0:
        raise DownloadError(f"{file} is empty: it has no row.")
    is_address = pc.fill_null(pc.match_substring_regex(table["url"], _ADDRESS), False)
    if pc.sum(is_address).as_py() * 2 < table.num_rows:
        captions = pc.fill_null(pc.match_substring_regex(table["caption"], _ADDRESS), False)
        swapped = pc.sum(captions).as_py() * 2 > table.num_rows
        raise DownloadError(
            f"{file}: most rows have no address where the URL should be, but "
            f"{table['url'][0].as_py()!r} and the like"
            f"{': the columns are swapped' if swapped else ''}; wanted are a caption, then a URL."
        )
    if not is_address[0].as_py():
        raise DownloadError(
            f"{file} begins with a row whose URL is {table['url'][0].as_py()!r}: a header, it "
            "seems; the file must have none, since a row's id is its position."
        )
