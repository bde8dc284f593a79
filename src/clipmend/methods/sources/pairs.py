"""The source ``pairs``: image-caption pairs of the user's own."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from clipmend.data.pairs import PAIRS, SPLITS
from clipmend.data.sampling import seeded_order
from clipmend.errors import PairsError
from clipmend.methods.settings import Count, InputPath
from clipmend.methods.sources.userfiles import Files, files_in, refuse_repeated_ids, splits_in
from clipmend.methods.sources.userrows import Columns


@dataclass(frozen=True)
class UserPairs:
    """Reads the user's own pairs; splits are given, or carved out of ``train``.

    A split is given by its ``<split>_path``, or by files named after it in the folder
    ``path`` (``test.parquet``, ``test-00000-of-00002.parquet``), and is then used whole.
    Files named after no split are all ``train``. What is carved depends on ``seed`` and
    the ids alone, not on the order of the rows; rows keep their order, and images their
    bytes. ``test`` is carved first, then ``val``, then ``trusted``: more trusted pairs
    leave the other two as they were. Files are read once to look at every pair, and once
    more for each split, a block of rows at a time: a set larger than memory is no matter.

    Attributes:
        classes: the class names; a label in the files is one of them, or (not in CSV) the
            integer of its place among them.
        path: a parquet file or webdataset shard, a folder of either, or a folder with a CSV
            file and the images that its rows name.
        train_path, trusted_path, val_path, test_path: the same for one split.
        train: pairs to keep of ``train``, in the same seeded order; null keeps all.
        trusted, val, test: pairs to carve where the split is not given.
        id_column: null numbers the rows.
        label_column: may be absent where labels are not needed: every pair of ``val`` and
            ``test`` needs one.
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

    def split(self, name: str) -> pa.RecordBatchReader:
        """Return a split; all files are looked at before the first.

        Raises:
            PairsError: the files do not fit these settings; the error names file and row.
        """
        files, ids = self._splits[name]
        batches = (batch for table in files.read(ids) for batch in table.to_batches())
        return pa.RecordBatchReader.from_batches(PAIRS, batches)

    @cached_property
    def _splits(self) -> dict[str, tuple[Files, frozenset[str]]]:
        """The files and ids of each split."""
        self._check_vocabulary()
        given = {name: _Looked.at(files) for name, files in self._files().items()}
        refuse_repeated_ids([(part.files, part.ids) for part in given.values()])
        pool = given["train"]
        carved = self._carve(pool.ids, [name for name in SPLITS if name not in given])
        splits = {name: (part.files, frozenset(part.ids)) for name, part in given.items()}
        splits |= {name: (pool.files, ids) for name, ids in carved.items()}
        for name in ("val", "test"):
            self._refuse_unlabeled(name, splits[name][1], given.get(name, pool).labeled)
        return splits

    def _refuse_unlabeled(self, name: str, ids: frozenset[str], labeled: frozenset[str]) -> None:
        if unlabeled := len(ids - labeled):
            raise PairsError(
                f"{unlabeled} of {len(ids)} pairs of the split {name!r} have no label, and "
                f"accuracy needs one of each: put a class into their column {self.label_column!r} "
                f"(label_column), or set {name}_path to labeled pairs alone."
            )

    def _check_vocabulary(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise PairsError(f"classes must be two or more different names, not {self.classes}.")
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise PairsError(f"The prompt {prompt!r} needs one {{}} where the class name goes.")
        if not self.prompts:
            raise PairsError("prompts is empty; the zero-shot classifier needs one or more.")

    def _files(self) -> dict[str, Files]:
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
        columns = Columns(self.id_column, self.image_column, self.caption_column, self.label_column)
        return {name: Files(name, paths, columns, self.classes) for name, paths in found.items()}

    def _carve(self, pool: Collection[str], missing: list[str]) -> dict[str, frozenset[str]]:
        """Return the ids of the missing splits and, as ``train``, what is left of ``pool``."""
        counts = {name: int(getattr(self, name)) for name in reversed(missing)}
        left = len(pool) - sum(counts.values())
        if left < (self.train or 1):
            raise PairsError(
                f"{len(pool)} training pairs are too few to carve "
                f"{', '.join(f'{name}: {count}' for name, count in counts.items()) or 'nothing'} "
                f"and keep {self.train or 'any'} to train on; lower these numbers or give the "
                "splits as files."
            )
        order = seeded_order(pool, self.seed, "pairs")
        carved: dict[str, frozenset[str]] = {}
        start = 0
        for name, count in (counts | {"train": self.train or left}).items():
            carved[name] = frozenset(order[start : start + count])
            start += count
        return carved


@dataclass(frozen=True)
class _Looked:
    """What a look at the pairs of a split found: their ids, in order, and which have labels."""

    files: Files
    ids: tuple[str, ...]
    labeled: frozenset[str]

    @classmethod
    def at(cls, files: Files) -> "_Looked":
        ids: list[str] = []
        labeled: set[str] = set()
        for table in files.checked():
            ids += table["id"].to_pylist()
            labeled.update(table.filter(table["label"].is_valid())["id"].to_pylist())
        return cls(files, tuple(ids), frozenset(labeled))
