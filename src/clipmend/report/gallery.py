"""What the attacks do to images and captions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image

from clipmend.data.images import Pixels, decode
from clipmend.data.pairs import read_manifest, read_rows
from clipmend.engine.job import Input
from clipmend.metrics.visibility import AMPLIFIED, difference
from clipmend.report.canvas import DOUBLE, SINGLE, Panels, blank, styled
from clipmend.report.order import attack_order, inputs_of

CAPTION = (
    "Training pairs before and after each attack: the clean image with its caption, the image with "
    "the trigger and the caption that the attacker put there, and their difference, four times as "
    "strong, about mid-gray. The first poisoned rows of the lowest seed."
)
_FILLED = 0.8  # of the room between columns; captions need the rest


@dataclass(frozen=True)
class Example:
    """A pair before and after an attack; images are 8-bit RGB of the same size."""

    corpus: str
    attack: str
    clean: Pixels
    triggered: Pixels
    caption: str
    poisoned_caption: str


def examples(inputs: Mapping[str, Input], count: int) -> list[Example]:
    """Return the first ``count`` poisoned pairs of each attack, at its lowest seed.

    Reads ``overlay.parquet`` of ``poison`` and, for the clean images, ``train.parquet`` of the
    corpus. An attack without rows has no examples; nor has a corpus that keeps no parquet.
    """
    corpora = {
        given.cell: given.folder / "train.parquet" for given in inputs_of(inputs, "download")
    }
    found: list[Example] = []
    for corpus, attack, overlay in _overlays(inputs):
        train = corpora[f"download/{corpus}"]
        poisoned = pq.read_table(overlay, use_threads=False, filters=[("is_poisoned", "=", True)])
        rows = poisoned.slice(0, count).to_pylist()
        if rows and train.is_file():
            clean = rows_of(train, [row["id"] for row in rows])
            found += [_example(corpus, attack, clean[row["id"]]["image"], row) for row in rows]
    return found


@styled
def draw_gallery(shown: Sequence[Example]) -> Figure:
    """Draw three rows per attack: clean, triggered, amplified difference."""
    if not shown:
        return blank("No attack in this grid changes an image.")
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in shown:
        groups.setdefault((example.corpus, example.attack), []).append(example)
    columns = max(map(len, groups.values()))
    wide = SINGLE if columns <= 2 else DOUBLE
    pitch = (wide - 0.4) / columns
    figure = Figure(
        figsize=(wide, len(groups) * (3 * _FILLED * pitch + 0.85)), layout="constrained"
    )
    parts = figure.subfigures(len(groups), 1, squeeze=False)
    several = len({corpus for corpus, _ in groups}) > 1
    for part, ((corpus, attack), group) in zip(parts.flat, groups.items(), strict=True):
        part.suptitle(f"{corpus}, {attack}" if several else attack, fontsize=9, x=0.01, ha="left")
        panels = part.subplots(3, columns, squeeze=False)
        for column in range(columns):
            _column(panels[:, column], group[column] if column < len(group) else None, pitch)
        names = ("clean", "triggered", f"difference \N{MULTIPLICATION SIGN}{AMPLIFIED}")
        for axes, name in zip(panels[:, 0], names, strict=True):
            axes.set_ylabel(name, fontsize=7.5)
    return figure


def _overlays(inputs: Mapping[str, Input]) -> Iterable[tuple[str, str, Path]]:
    """Return (corpus, attack, overlay) once per attack, in the report's order."""
    cells = sorted(inputs_of(inputs, "poison"), key=lambda given: given.seed or 0)
    first: dict[tuple[str, str], Path] = {}
    for given in cells:
        _, corpus, attack, _ = given.cell.split("/")
        first.setdefault((corpus, attack), given.folder / "overlay.parquet")
    order = sorted(first, key=lambda key: (key[0], attack_order(key[1])))
    return [(corpus, attack, first[corpus, attack]) for corpus, attack in order]


def rows_of(pairs: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the pairs that have these ids, by id, having read little more than these."""
    wanted = set(ids)
    there = read_manifest(pairs)["id"].to_pylist()
    rows = [row for row, row_id in enumerate(there) if row_id in wanted]
    return {row["id"]: row for row in read_rows(pairs, rows).to_pylist()}


def _example(corpus: str, attack: str, clean: bytes, row: Mapping[str, Any]) -> Example:
    triggered = Image.open(BytesIO(row["image"])).convert("RGB")
    # A corpus may keep photographs as they came; the attack saw them as training does.
    before = decode(clean, triggered.width)
    return Example(
        corpus,
        attack,
        np.asarray(before),
        np.asarray(triggered),
        row["original_caption"],
        row["caption"],
    )


def _column(panels: Panels, example: Example | None, pitch: float) -> None:
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    if example is None:
        return
    images = (
        example.clean,
        example.triggered,
        difference(example.clean, example.triggered),
    )
    for axes, image in zip(panels, images, strict=True):
        axes.imshow(image, interpolation="nearest")
    letters = int(pitch / 0.062)
    panels[0].set_title(_short(example.caption, letters), fontsize=7, pad=2)
    panels[1].set_title(_short(example.poisoned_caption, letters), fontsize=7, pad=2)


def _short(caption: str, letters: int) -> str:
    """Return the caption on at most three lines of so many letters."""
    plain = caption.replace("$", r"\$")  # a price is no formula
    return "\n".join(wrap(plain, letters, max_lines=3, placeholder=" …"))
