"""The source ``pairs``: image-caption pairs of the user's own."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clipmend.corpus.pairs import SPLITS
from clipmend.download.userfiles import (
    Columns,
    files_in,
    read_split,
    refuse_repeated_ids,
    splits_in,
)
from clipmend.errors import PairsError
from clipmend.seeds import seed_of
from clipmend.settings import Count, InputPath


@dataclass(frozen=True)
class UserPairs:
    """Reads the user's own pairs; splits are given, or carved out of ``train``.

    A split is given by its ``<split>_path``, or by files named after it in the folder
    ``path`` (``test.parquet``, ``test-00000-of-00002.parquet``), and is then used whole.
    Files named after no split are all ``train``. What is carved depends on ``seed`` and
    the ids alone, not on the order of the rows; rows keep their order, and images their
    bytes. ``test`` is carved first, then ``val``, then ``trusted``: more trusted pairs
    leave the other two as they were.

    Attributes:
        classes: the class names; a label in the files is one of them, or (in parquet) the
            integer of its place among them.
        path: a parquet file, a folder of parquet files, or a folder with a CSV file and
            the images that its rows name.
        train_path, trusted_path, val_path, test_path: the same for one split.
        train: pairs to keep of ``train``, in the same seeded order; null keeps all.
        trusted, val, test: pairs to carve where the split is not given.
        id_column: null numbers the rows.
        label_column: may be absent where labels are not needed: they are, in part of
            ``val`` and ``test``.
        seed: draws the splits. It is no run's seed: every seed of a grid sees the same pairs.
    """

    classes: tuple[str, ...]
    path: InputPath | None = None
    train_path: InputPath | None = None
    trusted_path: InputPath | None = None
    val_path: InputPath | None = None
    test_path: InputPath | None = None
    train: Count | None = None
    trusted: Count = 1000
    val: Count = 2000
    test: Count = 5000
    id_column: str | None = "id"
    image_column: str = "image"
    caption_column: str = "caption"
    label_column: str = "label"
    prompts: tuple[str, ...] = ("a photo of a {}",)
    image_size: Count = 32
    seed: int = 0

    def split(self, name: str) -> pa.Table:
        """Return a split; all are read at the first call.

        Raises:
            PairsError: the files do not fit these settings; the error names file and row.
        """
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[str, pa.Table]:
        self._check_vocabulary()
        columns = Columns(self.id_column, self.image_column, self.caption_column, self.label_column)
        files = self._files()
        given = {
            name: read_split(name, found, columns, self.classes) for name, found in files.items()
        }
        refuse_repeated_ids(list(given.values()), [_place(found) for found in files.values()])
        splits = given | self._carve(given["train"], [name for name in SPLITS if name not in given])
        for name in ("val", "test"):
            if splits[name]["label"].null_count == splits[name].num_rows:
                raise PairsError(
                    f"The split {name!r} has no labels, and accuracy needs some: no column "
                    f"{self.label_column!r} (label_column) with a class in it."
                )
        return splits

    def _check_vocabulary(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise PairsError(f"classes must be two or more different names, not {self.classes}.")
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise PairsError(f"The prompt {prompt!r} needs one {{}} where the class name goes.")
        if not self.prompts:
            raise PairsError("prompts is empty; the zero-shot classifier needs one or more.")

    def _files(self) -> dict[str, list[Path]]:
        """Return the files of each split that is given; ``train`` always is."""
        found = {} if self.path is None else splits_in(files_in(Path(self.path)))
        for name in SPLITS:
            stated: str | None = getattr(self, f"{name}_path")
            if stated is not None:
                found[name] = files_in(Path(stated))
        if "train" not in found:
            raise PairsError(
                "Nothing says where the training pairs are: set path (a file or folder) or "
                f"train_path. Given: {', '.join(found) or 'nothing'}."
            )
        return found

    def _carve(self, pool: pa.Table, missing: list[str]) -> dict[str, pa.Table]:
        """Return the missing splits and what is left of ``pool`` as ``train``."""
        counts = {name: int(getattr(self, name)) for name in reversed(missing)}
        left = pool.num_rows - sum(counts.values())
        if left < (self.train or 1):
            raise PairsError(
                f"{pool.num_rows} training pairs are too few to carve "
                f"{', '.join(f'{name}: {count}' for name, count in counts.items()) or 'nothing'} "
                f"and keep {self.train or 'any'} to train on; lower these numbers or give the "
                "splits as files."
            )
        ids = pool["id"].to_pylist()
        order = sorted(ids, key=lambda row_id: (seed_of(self.seed, f"pairs/{row_id}"), row_id))
        carved: dict[str, pa.Table] = {}
        start = 0
        for name, count in (counts | {"train": self.train or left}).items():
            members = pa.array(order[start : start + count], pa.string())
            carved[name] = pool.filter(pc.is_in(pool["id"], value_set=members))
            start += count
        return carved


def _place(files: list[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} … {files[-1].name}"
