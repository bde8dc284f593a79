"""The training pairs of a cell with the poison in place, in the form that ``mend`` reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipmend.data import artifacts
from clipmend.data.pairs import OVERLAY, PAIRS, read_manifest, read_pairs
from clipmend.data.row_groups import GROUP, Encoded, Reader
from clipmend.engine import files
from clipmend.engine.cell import Place
from clipmend.engine.index import Index
from clipmend.errors import ArtifactError, ClipmendError, PlanError
from clipmend.tools.finished import finished, place_of

_EXPORTED = pa.schema([PAIRS.field(name) for name in ("id", "image", "caption")])
_NONE = pa.Table.from_batches([], schema=OVERLAY)
_SUFFIX = ".parquet"


def export_pairs(cell: str, out: Path) -> str:
    """Write the training pairs of a cell, the poison of its attack in place; return a summary.

    The columns are id, image (encoded bytes) and caption. Labels and poison marks stay out, since
    a defender does not have them. Rows are read and written in groups, whatever their number.

    Args:
        cell: the path of any cell below ``results/`` but the report's; of a corpus, which has no
            attack, the pairs are the clean ones.

    Raises:
        ClipmendError: the cell does not exist, is damaged, or has no training pairs of its own;
            or the file cannot be written.
    """
    place, index = place_of(cell), Index()
    if place.stage == "report":
        raise PlanError("The report has no training pairs; name a victim, say, or a corpus.")
    _check_out(out)
    finished(place, index)  # the cell itself must exist, not only those that it reads
    train, poison = _files(place, index)
    with files.whole(out) as fresh:
        count = write_poisoned(train, poison, fresh)
    return f"{out}: {count[0]:,} pairs, {count[1]:,} of them changed by the attack"


def write_poisoned(train: Path, overlay: Path | None, out: Path) -> tuple[int, int]:
    """Write a split with an overlay in place; return the numbers of all and of changed pairs.

    Raises:
        ArtifactError: the overlay changes a row that the split does not have.
    """
    manifest = read_manifest(train).select(["id", "caption"])
    poison = _NONE if overlay is None else read_pairs(overlay, OVERLAY)
    ids: list[str] = manifest["id"].to_pylist()
    position = {row_id: number for number, row_id in enumerate(poison["id"].to_pylist())}
    changed = {row: position[row_id] for row, row_id in enumerate(ids) if row_id in position}
    if len(changed) < len(position):
        raise ArtifactError(f"{overlay} changes rows that {train} does not have.")
    encoded = Encoded(train, tuple(ids), changed, poison["image"])
    captions: list[str] = manifest["caption"].to_pylist()
    for row, number in changed.items():
        captions[row] = poison["caption"][number].as_py()
    with pq.ParquetWriter(out, _EXPORTED, compression="zstd", write_statistics=False) as writer:
        for table in _groups(encoded, captions):
            writer.write_table(table, row_group_size=GROUP)
    return len(ids), len(changed)


def _groups(encoded: Encoded, captions: list[str]) -> Iterator[pa.Table]:
    reader = Reader(encoded, budget=0)  # each group is read once
    for start in range(0, len(captions), GROUP):
        rows = np.arange(start, min(start + GROUP, len(captions)))
        ids, images = zip(*reader.images(rows), strict=True)
        yield pa.table([ids, images, captions[start : start + GROUP]], schema=_EXPORTED)


def _files(place: Place, index: Index) -> tuple[Path, Path | None]:
    """Return the split and the overlay that a cell is about; a corpus has no overlay."""
    train = finished(place.at("download"), index).folder / artifacts.TRAIN
    if place.stage == "download":
        return train, None
    return train, finished(place.at("poison"), index).folder / artifacts.OVERLAY


def _check_out(out: Path) -> None:
    if out.suffix.lower() != _SUFFIX:
        raise ClipmendError(
            f"--out {out} does not end in {_SUFFIX}, the one format that is written."
        )
    if out.exists() or out.is_symlink():
        raise ClipmendError(f"--out {out} exists; name a new file.")
    if not out.parent.is_dir():
        raise ClipmendError(f"--out {out} cannot be written: {out.parent} is not a folder.")
