"""A practitioner's own pairs, read file by file and decoded for the model."""

import logging
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from clipmend.data.images import decode_all
from clipmend.data.splits import Pairs
from clipmend.errors import PairsError
from clipmend.methods.sources.user_files import Columns, Files, files_in, splits_in

log = logging.getLogger(__name__)
LEAST = 64  # fewer do not tell an odd pair from the rule


@dataclass(frozen=True)
class Names:
    """What the user's files call the columns; ``id`` None: "id" if there is one; "": numbered."""

    id: str | None
    image: str
    caption: str


def read_own_pairs(path: Path, names: Names, *, size: int, limit: int | None = None) -> Pairs:
    """Return the pairs that ``path`` is or holds, their images squared to ``size``, no labels.

    Of a folder whose files are named after splits, the ``train`` files. A block of encoded images
    is in memory at a time, and all decoded ones: ``3 * size**2`` bytes each.

    Args:
        limit: only the first ``limit`` pairs; all if None.

    Raises:
        PairsError: the files cannot be read, ids stand twice, or there are too few pairs.
    """
    files = _files(path)
    columns = Columns(_id_column(names, files[0]), names.image, names.caption, None)
    ids: list[str] = []
    captions: list[str] = []
    images = []
    for table in chain.from_iterable(Files(f.stem, [f], columns, ()).checked() for f in files):
        table = table if limit is None else table[: limit - len(ids)]
        ids += table["id"].to_pylist()
        captions += table["caption"].to_pylist()
        rows = zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True)
        images.append(decode_all(rows, table.num_rows, size))
        if limit is not None and len(ids) >= limit:
            break
    _check(path, ids)
    log.info("%s: %d pairs", path, len(ids))
    return Pairs(
        ids=tuple(ids),
        images=torch.cat(images),
        captions=tuple(captions),
        label=torch.full((len(ids),), -1),
        is_poisoned=torch.zeros(len(ids), dtype=torch.bool),
    )


def _files(path: Path) -> list[Path]:
    found = files_in(path)
    if path.is_file():
        return found
    splits = splits_in(found)
    if "train" not in splits:
        raise PairsError(
            f"{path} holds {', '.join(splits)} and no train; name the file that the model was "
            "trained on."
        )
    if len(splits) > 1:
        log.info("%s: only what is named train is read", path)
    return splits["train"]


def _id_column(names: Names, file: Path) -> str | None:
    if names.id is not None:
        return names.id or None
    if file.suffix == ".tar":
        return "id"  # its keys
    try:
        header = pa.csv.open_csv(file) if file.suffix == ".csv" else pq.ParquetFile(file)
        schema = header.schema if file.suffix == ".csv" else header.schema_arrow
    except (pa.ArrowException, OSError):
        return None  # what is wrong with the file is said where its rows are read
    return "id" if "id" in schema.names else None


def _check(path: Path, ids: list[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise PairsError(
            f"The id {twice!r} stands twice in {path}; ids must be unique. "
            "--id-column '' numbers the rows instead."
        )
    if len(ids) < LEAST:
        raise PairsError(
            f"{path} gives {len(ids)} pairs; at least {LEAST} are needed to tell an odd one from "
            "the rule."
        )
