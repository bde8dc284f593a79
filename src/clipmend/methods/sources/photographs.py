"""Photographs of a public archive as pairs, captioned by seeded templates with synonyms.

The base of the sources ``cifar10`` and ``cifar100``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from clipmend.data.pairs import PAIRS
from clipmend.data.sampling import seeded_order
from clipmend.data.seeds import seed_of
from clipmend.errors import DownloadError
from clipmend.methods.settings import Count
from clipmend.methods.sources.archive import Pictures, fetch_archive, read_archive
from clipmend.methods.sources.interface import check_vocabulary
from clipmend.methods.sources.pairs import UserPairs

FORMS = (
    "a photo of {a} {}",
    "{a} {}",
    "a close-up of {a} {}",
    "a small picture of {a} {}",
    "a blurry photo of {a} {}",
    "one {}",
    "my favourite {}",
    "the {} we saw on holiday",
    "{} for sale",
    "stock image : {}",
)
"""The templates of captions; ``{a}`` is the article."""

_RENAMED, _PLACED = 0.35, 0.4  # shares of captions that choose among all names, and name a place


@dataclass(frozen=True)
class Photographs:
    """Photographs of 32 pixels, fetched from their official home and captioned.

    The archive is the one that torchvision takes, and its checksum is verified. A caption is a
    template, a name of the class (in 35 % any of its names, else the first) and in 40 % a place. It
    depends on ``seed`` and the photograph's id alone. ``trusted`` and ``val`` are carved out of the
    training photographs, as the source ``pairs`` does it.

    Attributes:
        url: the address of the archive; a mirror has the same bytes.
        md5: the checksum of the archive.
        per_class: how many training photographs of each class to use, in the archive's order;
            null uses all.
        test_per_class: the same for ``test``.
        train: pairs to keep of ``train``, in the seeded order; null keeps all.
        trusted: pairs to carve for ``trusted``.
        val: pairs to carve for ``val``.
        test: pairs to keep of ``test``, in a seeded order; null keeps all.
        stored_as: `png` keeps every pixel; `jpeg` is Pillow's usual JPEG (quality 75), as the
            photographs of ``studies/photos`` are stored.
        prompts: templates of the zero-shot classifier, each with one ``{}``.
        image_size: side of the square images that models see, in pixels.
        seed: seed of captions and carved splits. It is not the seed of a run: all seeds of a grid
            use the same pairs.
    """

    url: str
    md5: str
    per_class: Count | None = None
    test_per_class: Count | None = None
    train: Count | None = None
    trusted: Count = 1000
    val: Count = 2000
    test: Count | None = None
    stored_as: Literal["png", "jpeg"] = "png"
    prompts: tuple[str, ...] = ("a photo of a {}",)
    image_size: Count = 32
    seed: int = 0

    FILES: ClassVar[tuple[Sequence[str], Sequence[str], str]]
    """The files of the archive with training pictures, test pictures, and names of classes."""

    SYNONYMS: ClassVar[Mapping[str, Sequence[str]]]
    """Other names of a class."""

    PLACES: ClassVar[Mapping[str, Sequence[str]]]
    """Where a class, or all of a superclass, is seen."""

    def fetch(self, work: Path, out: Path) -> UserPairs:
        """Download into ``work``, where an earlier try may have left the archive.

        Raises:
            DownloadError: the archive cannot be downloaded or read, or has too few photographs.
            PairsError: a prompt has no place for the class.
        """
        del out
        check_vocabulary(("one", "another"), self.prompts)  # those of the archive are not known yet
        pictures, classes = read_archive(fetch_archive(self.url, self.md5, work), *self.FILES)
        folder = work / "pairs"
        folder.mkdir(exist_ok=True)
        for split, limit in (("train", self.per_class), ("test", self.test_per_class)):
            rows = list(self._rows(split, pictures[split], limit))
            if split == "test" and self.test is not None:
                if len(rows) < self.test:
                    raise DownloadError(f"test: {self.test} needs more than {len(rows)} pictures.")
                kept = {*seeded_order((row["id"] for row in rows), self.seed, "test")[: self.test]}
                rows = [row for row in rows if row["id"] in kept]
            pq.write_table(pa.Table.from_pylist(rows, PAIRS), folder / f"{split}.parquet")
        return UserPairs(
            classes=classes,
            path=str(folder),
            train=self.train,
            trusted=self.trusted,
            val=self.val,
            prompts=self.prompts,
            image_size=self.image_size,
            on_bad_rows="refuse",
            seed=self.seed,
        )

    def _rows(self, split: str, pictures: Pictures, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield the pairs of a split, at most ``limit`` of each class.

        Raises:
            DownloadError: a class has fewer pictures.
        """
        counts: Counter[str] = Counter()
        for pixels, label, group in zip(
            pictures.pixels, pictures.labels, pictures.groups, strict=True
        ):
            if counts[label] == limit:
                continue
            # The same id however it is stored: captions and carved splits depend on it.
            row_id = f"{split}/{label}/{counts[label]:04d}.jpg"
            counts[label] += 1
            names = (label, *self.SYNONYMS.get(label, ()))
            places = self.PLACES.get(label) or self.PLACES.get(group, ())
            text = caption(names, places, seed_of(self.seed, f"photographs/{row_id}"))
            image = _encoded(pixels, self.stored_as)
            yield {"id": row_id, "image": image, "caption": text, "label": label}
        if limit is not None and (few := [c for c in set(pictures.labels) if counts[c] < limit]):
            raise DownloadError(
                f"{limit} pictures of each class are wanted for {split}; {min(few)} has "
                f"{counts[min(few)]}."
            )


def caption(names: Sequence[str], places: Sequence[str], number: int) -> str:
    """Return the caption that a number of 56 random bits stands for.

    Args:
        names: the usual name of the class, then its synonyms.
        places: phrases such as "in the sky".
    """

    def chosen(count: int) -> int:
        nonlocal number
        number, rest = divmod(number, count)
        return rest

    form = FORMS[chosen(len(FORMS))]
    is_any, is_placed = chosen(1000) < 1000 * _RENAMED, chosen(1000) < 1000 * _PLACED
    name = names[chosen(len(names))] if is_any else names[0]
    text = form.format(name, a="an" if name[0] in "aeiou" else "a")
    return f"{text} {places[chosen(len(places))]}" if is_placed and places else text


def _encoded(pixels: NDArray[np.uint8], form: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()
