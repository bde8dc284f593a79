"""The pairs of the user, read file by file and decoded for the model."""

import csv
import logging
from collections import Counter
from itertools import chain
from pathlib import Path

import pyarrow as pa
import torch

from clipmend.data.images import decode_all
from clipmend.data.splits import Pairs
from clipmend.engine.folders import SHARD
from clipmend.errors import PairsError
from clipmend.methods.sources.bad_rows import BadRows
from clipmend.methods.sources.records import Columns, names_in
from clipmend.methods.sources.user_files import Files, files_in, splits_in
from clipmend.tools.standalone.options import Options

log = logging.getLogger(__name__)
LEAST = 64  # pairs; among fewer an unusual pair does not stand out


def read_own_pairs(options: Options, *, size: int, bad: BadRows | None = None) -> Pairs:
    """Return the pairs of the user, without labels; images are cropped to ``size``.

    Rows that cannot be used are added to ``bad``.

    If the files of a folder are named after splits, only the ``train`` files are read. All decoded
    images are in memory, ``3 * size**2`` bytes each, and one block of encoded ones.

    Raises:
        PairsError: the files cannot be read, too many rows cannot be used, an id is repeated, or
            there are too few pairs.
    """
    bad = BadRows(options.on_bad_rows) if bad is None else bad
    path, limit = options.pairs, options.limit
    files = _files(path)
    key = _id_column(files[0]) if options.id_column is None else options.id_column or None
    columns = Columns(key, options.image_column, options.caption_column, None)
    ids: list[str] = []
    captions: list[str] = []
    images = []
    for table in chain.from_iterable(Files(f.stem, [f], columns, (), bad).checked() for f in files):
        block = table if limit is None else table[: limit - len(ids)]
        keys = block["id"].to_pylist()
        ids += keys
        captions += block["caption"].to_pylist()
        rows = zip(keys, block["image"].to_pylist(), strict=True)
        images.append(decode_all(rows, len(keys), size))
        if len(ids) == limit:
            break
    bad.check_policy()
    bad.check_share()
    if len(set(ids)) < len(ids):
        repeated = Counter(ids).most_common(1)[0][0]
        raise PairsError(
            f"The id {repeated!r} is repeated in {path}; ids must be unique. "
            "Use --id-column '' to number the rows."
        )
    if len(ids) < LEAST:
        raise PairsError(f"{path} has {len(ids)} pairs; at least {LEAST} are needed.")
    log.info("%s: %d pairs", path, len(ids))
    return Pairs(
        ids=tuple(ids),
        images=torch.cat(images),
        captions=tuple(captions),
        # -1 and False are the values of pairs whose truth is unknown.
        label=torch.full((len(ids),), -1),
        is_poisoned=torch.zeros(len(ids), dtype=torch.bool),
    )


def _files(path: Path) -> list[Path]:
    files = files_in(path)
    if path.is_file():
        return files
    splits = splits_in(files)
    if "train" not in splits:
        raise PairsError(
            f"{path} has the splits {', '.join(splits)} but not train; name the file that the "
            "model was trained on."
        )
    if len(splits) > 1:
        log.info("%s: reading the files of train only", path)
    return splits["train"]


def _id_column(file: Path) -> str | None:
    if file.suffix.lower() == SHARD:
        return "id"  # the key of a sample
    try:
        # The header alone: the rows of a large file are read later, block by block.
        return "id" if "id" in names_in(file) else None
    except (pa.ArrowException, csv.Error, OSError, UnicodeError):
        return None  # the file is reported where its rows are read
