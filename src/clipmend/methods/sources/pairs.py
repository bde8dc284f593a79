"""The source ``pairs``: image-caption pairs from the user's own files."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import pyarrow as pa

from clipmend.data.pairs import PAIRS, SPLITS
from clipmend.data.sampling import seeded_order
from clipmend.errors import PairsError
from clipmend.methods.settings import Count, Fraction, InputPath, OnBadRows
from clipmend.methods.sources.bad_rows import BadRows
from clipmend.methods.sources.interface import check_vocabulary
from clipmend.methods.sources.records import Columns
from clipmend.methods.sources.user_files import (
    Files,
    files_in,
    files_of_split,
    refuse_repeated_ids,
    splits_in,
)


@dataclass(frozen=True)
class UserPairs:
    """Reads the user's own pairs; a split has files of its own, or is carved out of ``train``.

    The files of a split are its ``<split>_path``, or the files in the folder ``path`` that are
    named after it (``test.parquet``, ``cc3m-validation-0000.tar``); such a split is used
    completely. Files with other names are ``train``. Which pairs are carved depends on ``seed``
    and the ids alone, not on the order of the rows; rows keep their order, and images their bytes.
    ``test`` is carved first, then ``val``, then ``trusted``, so that more trusted pairs leave the
    other two splits unchanged. Files are read once to check every pair, and once more for each
    split. They are read in blocks of rows: a set of pairs may be larger than memory.

    Attributes:
        classes: the class names. A label in the files is a class name, or (not in CSV) an integer
            that indexes this list.
        path: a parquet file or webdataset shard, a folder of either, or a folder with a CSV file
            and the images that it names.
        train_path: the same for ``train`` alone; null takes ``path``.
        trusted_path: the same for ``trusted``; null carves it.
        val_path: the same for ``val``; null carves it.
        test_path: the same for ``test``; null carves it.
        train: pairs to keep of ``train``, in the seeded order; null keeps all.
        trusted: pairs to carve for ``trusted``, if it has no files.
        val: pairs to carve for ``val``, if it has no files.
        test: pairs to carve for ``test``, if it has no files.
        id_column: the column of unique ids; null numbers the rows.
        image_column: the column of encoded images or (in CSV) image file names.
        caption_column: the column of captions.
        label_column: the column of labels. Every pair of ``val`` and ``test`` needs a label;
            other files may lack the column.
        prompts: templates of the zero-shot classifier, each with one ``{}``.
        image_size: side of the square images that models see, in pixels.
        on_bad_rows: `skip` leaves out rows that cannot be used and lists them in
            ``bad_rows.json`` beside the splits; `refuse` refuses all pairs.
        max_bad_share: the largest share of such rows that `skip` allows.
        seed: seed of the carved splits. It is not the seed of a run: all seeds of a grid use the
            same pairs.
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
    on_bad_rows: OnBadRows = "skip"
    max_bad_share: Fraction = 0.25
    seed: int = 0

    def split(self, name: str) -> pa.RecordBatchReader:
        """Return a split; the first call checks all files.

        Raises:
            PairsError: the files do not fit these settings; the error names file and row.
        """
        files, ids = self._splits[name]
        return pa.RecordBatchReader.from_batches(PAIRS, files.read(ids))

    @cached_property
    def bad_rows(self) -> BadRows:
        """The rows that cannot be used, complete after the first call of ``split``."""
        return BadRows(self.on_bad_rows, self.max_bad_share)

    @cached_property
    def _splits(self) -> dict[str, tuple[Files, frozenset[str]]]:
        """The files of each split, and the ids of the rows that belong to it."""
        check_vocabulary(self.classes, self.prompts)
        files = self._files()
        ids: dict[str, list[str]] = {name: [] for name in files}
        labeled: set[str] = set()
        for name, split in files.items():
            for batch in split.checked():
                ids[name] += batch["id"].to_pylist()
                labeled.update(batch.filter(batch["label"].is_valid())["id"].to_pylist())
        self.bad_rows.check_share()
        # Over all splits: an id in two of them would let a model train on its test pairs.
        refuse_repeated_ids([(files[name], ids[name]) for name in files])
        splits = {name: (files[name], frozenset(ids[name])) for name in files}
        missing = [name for name in SPLITS if name not in files]
        for name, carved in self._carve(ids["train"], missing).items():
            splits[name] = files["train"], carved
        for name in ("val", "test"):
            members = splits[name][1]
            if unlabeled := members - labeled:
                raise PairsError(
                    f"{len(unlabeled)} of {len(members)} pairs of the split {name!r} have no "
                    f"label, and accuracy needs one for each: put a class into their column "
                    f"{self.label_column!r} (label_column), or set {name}_path to labeled pairs."
                )
        return splits

    def _files(self) -> dict[str, Files]:
        """Return the files of each split that has files; ``train`` always has."""
        paths = {} if self.path is None else splits_in(files_in(Path(self.path)))
        for name in SPLITS:
            path: str | None = getattr(self, f"{name}_path")
            if path is not None:
                files = files_in(Path(path))
                # A single file is what the user says, whatever its name.
                paths[name] = files_of_split(name, files) if Path(path).is_dir() else files
        if "train" not in paths:
            raise PairsError(
                "No training pairs: set path (a file or folder) or train_path. Splits with files: "
                f"{', '.join(paths) or 'none'}."
            )
        columns = Columns(self.id_column, self.image_column, self.caption_column, self.label_column)
        bad = self.bad_rows
        return {name: Files(name, paths[name], columns, self.classes, bad) for name in paths}

    def _carve(self, pool: Collection[str], missing: list[str]) -> dict[str, frozenset[str]]:
        """Return the ids of the missing splits and, as ``train``, the rest of ``pool``."""
        # The reverse order takes ``test`` first, so that a larger ``trusted`` does not change it.
        counts = {name: int(getattr(self, name)) for name in reversed(missing)}
        rest = len(pool) - sum(counts.values())
        if rest < (self.train or 1):
            raise PairsError(
                f"{len(pool)} training pairs are too few to carve "
                f"{', '.join(f'{name}: {count}' for name, count in counts.items()) or 'nothing'} "
                f"and keep {self.train or 'any'} to train on; lower these numbers or give the "
                "splits files of their own."
            )
        # By ids, not rows: the same pairs in another order or format are the same splits.
        order = iter(seeded_order(pool, self.seed, "pairs"))
        counts |= {"train": self.train or rest}
        return {name: frozenset(islice(order, count)) for name, count in counts.items()}
