"""At what scale a corpus was tested, as its cells state it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq

from clipmend.engine.job import Input
from clipmend.report.order import attack_order, inputs_of
from clipmend.report.truth import count_poisons


@dataclass(frozen=True)
class Scale:
    """How large the corpus and the model were; None for what no cell states.

    Attributes:
        poisoned_pairs: by attack; of several seeds the most.
        image_size: side in pixels.
        pretrained: what the model started from; None for nothing.
    """

    train_pairs: int | None
    trusted_pairs: int | None
    poisoned_pairs: Mapping[str, int]
    image_size: int | None
    model: str | None
    pretrained: str | None

    def text(self) -> str:
        """Return it in words."""
        parts = []
        if self.train_pairs is not None:
            parts.append(f"{self.train_pairs:,} training pairs{self._poison()}")
        if self.trusted_pairs is not None:
            parts.append(f"{self.trusted_pairs:,} trusted")
        if self.image_size is not None:
            parts.append(f"{self.image_size} pixels")
        if self.model is not None:
            start = "trained from nothing" if self.pretrained is None else f"from {self.pretrained}"
            parts.append(f"{self.model} {start}")
        return ", ".join(parts)

    def _poison(self) -> str:
        counts = sorted(count for count in self.poisoned_pairs.values() if count)
        if not counts:
            return ""
        few, many = counts[0], counts[-1]
        return f" ({few:,} poisoned)" if few == many else f" ({few:,} to {many:,} poisoned)"


def scales(inputs: Mapping[str, Input]) -> dict[str, Scale]:
    """Return the scale of each corpus.

    Reads what ``download`` and ``pretrain`` were given, the length of ``train.parquet`` and
    ``trusted.parquet``, and of ``overlay.parquet`` what is poisoned.
    """
    trained = inputs_of(inputs, "pretrain")
    found = {}
    for given in inputs_of(inputs, "download"):
        corpus = given.cell.partition("/")[2]
        shared = next((one.shared for one in trained if _corpus(one) == corpus), {})
        found[corpus] = Scale(
            train_pairs=_pairs(given, "train"),
            trusted_pairs=_pairs(given, "trusted"),
            poisoned_pairs=_poisoned(inputs, corpus),
            image_size=given.settings.get("image_size"),
            model=shared.get("model"),
            pretrained=shared.get("pretrained"),
        )
    return dict(sorted(found.items()))


def _pairs(given: Input, split: str) -> int | None:
    """Return the pairs of a split: those that are there, or else those that were asked for."""
    path = given.folder / f"{split}.parquet"
    if path.is_file():
        return int(pq.read_metadata(path).num_rows)
    asked = given.settings.get(split)
    return asked if isinstance(asked, int) else None


def _poisoned(inputs: Mapping[str, Input], corpus: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for given in inputs_of(inputs, "poison"):
        if _corpus(given) == corpus:
            attack = given.cell.split("/")[2]
            poisons = count_poisons(given.folder / "overlay.parquet")
            counts[attack] = max(poisons, counts.get(attack, 0))
    return {attack: counts[attack] for attack in sorted(counts, key=attack_order)}


def _corpus(given: Input) -> str:
    return given.cell.split("/")[1]
