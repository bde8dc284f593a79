"""The choice of the few suspects to unlearn, a part of UBT's repair."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipmend.data.words import words_of

_BINS = 256


@dataclass(frozen=True)
class Subset:
    """A few pairs, and the word that is most over-represented in their captions.

    Attributes:
        rows: rows of the pairs, the most suspect first; empty if nothing will be unlearned.
        word: the over-represented word.
        share: share of the most suspect captions that have the word.
        base: share of all captions that have the word.
    """

    rows: Int[Tensor, " chosen"]
    word: str
    share: float
    base: float

    @property
    def excess(self) -> float:
        """The share minus the base, in [-1, 1]."""
        return self.share - self.base


def few_shot(
    score: Float[Tensor, " samples"],
    suspects: Int[Tensor, " suspects"],
    captions: Sequence[str],
    *,
    most: int,
    least_excess: float,
) -> Subset:
    """Return the few suspects to unlearn; none if they have no word in common.

    A backdoor associates many images with one word, and nearly all of the most suspect captions
    have this word. Without a backdoor, the most suspect pairs are hard or mislabeled ones, whose
    captions have little in common.

    Args:
        suspects: rows of the pairs that the detector calls suspects.
        most: the largest number of pairs. Fewer are taken where fewer suspects stand out by their
            score (Otsu's threshold).
        least_excess: the least excess at which a word counts as a finding.
    """
    ranked = suspects[score[suspects].argsort(descending=True, stable=True)]
    subset = subset_of(ranked[: min(most, outstanding(score[suspects]))], captions)
    if subset.excess < least_excess:
        return replace(subset, rows=subset.rows[:0])
    having = [row for row in subset.rows.tolist() if subset.word in words_of(captions[row])]
    return replace(subset, rows=torch.tensor(having))


def subset_of(rows: Int[Tensor, " chosen"], captions: Sequence[str]) -> Subset:
    """Return these rows with the word that is most over-represented in their captions."""
    words = [words_of(caption) for caption in captions]
    everywhere = Counter(word for caption in words for word in caption)
    among = Counter(word for row in rows.tolist() for word in words[row])
    if not among:
        return Subset(rows, "", share=0.0, base=0.0)

    def excess(word: str) -> tuple[float, str]:
        # The word breaks ties: the order of a set of words differs from process to process.
        return among[word] / len(rows) - everywhere[word] / len(words), word

    word = max(among, key=excess)
    return Subset(rows, word, among[word] / len(rows), everywhere[word] / len(words))


def outstanding(score: Float[Tensor, " suspects"]) -> int:
    """Return the number of scores above Otsu's threshold (Otsu 1979), or of all if they are equal.

    The threshold maximizes the variance between the scores on its two sides.
    """
    low, high = float(score.min()), float(score.max())
    if low == high:
        return len(score)
    # A grid of thresholds is exact enough for a count, and needs one vectorized comparison.
    edges = torch.linspace(low, high, _BINS + 1)[1:-1]
    above = score[None] > edges[:, None]
    share = above.float().mean(dim=1)
    total = float(score.mean())
    mean = (above * score).sum(dim=1) / above.sum(dim=1).clamp(min=1)
    between = share * (mean - total).square() / (1 - share).clamp(min=1e-6)
    return int(above[between.argmax()].sum())
